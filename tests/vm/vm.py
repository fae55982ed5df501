#!/usr/bin/python3
"""Real virtual machines, each with udevd and mountd, against one vmdkopsd: a VMDK is hot-plugged through a PVSCSI controller and
follows its container from one VM to the other.

    vm.py SCENARIO|all --vmdkopsd PATH --mountd PATH --vmdkops-admin PATH --vsock-test PATH

Root is not needed by QEMU (it emulates), but by the service's privileged parts. See lab.py for what is started and how it ends,
docs/qemu.md for how to do the same on a KVM host.
"""
import argparse
import faulthandler
import sys
import time

import vm_disks
import vm_failure
from guest_image import LIMIT, NoKernel
from lab import Lab

SCENARIOS = {scenario.__name__: scenario for module in (vm_disks, vm_failure) for scenario in module.SCENARIOS}
SKIPPED_STATUS = 77
MAX_SECONDS = 280  # a test that hangs says where, before ctest ends it


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"])
    for program in ("vmdkopsd", "mountd", "vmdkops-admin", "vsock-test"):
        parser.add_argument(f"--{program}", required=True)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(MAX_SECONDS)
    for name in SCENARIOS if arguments.scenario == "all" else [arguments.scenario]:
        began = time.monotonic()
        try:
            with Lab(vmdkopsd=arguments.vmdkopsd, mountd=arguments.mountd, vmdkops_admin=arguments.vmdkops_admin,
                     vsock_test=arguments.vsock_test) as lab:
                SCENARIOS[name](lab)
        except NoKernel as error:
            print(error)
            assert str(error).startswith(LIMIT)
            return SKIPPED_STATUS
        print(f"{name}: passed in {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
