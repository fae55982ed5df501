#!/usr/bin/python3
"""Real virtual machines, each with udevd and mountd, against one vmdkopsd: a VMDK is hot-plugged through a PVSCSI controller and
follows its container from one VM to the other.

    vm.py disks|failures|SCENARIO --vmdkopsd PATH --mountd PATH --vmdkops-admin PATH --vsock-test PATH

The scenarios of a group run one after the other with the same two VMs, web-1 and web-2, since booting takes longer than most of
them. Each leaves no volume and two VMs that serve. See lab.py for what is started and how it ends, docs/qemu.md for how to do the
same on a KVM host.
"""
import argparse
import faulthandler
import sys
import time

import vm_disks
import vm_failure
from guest_image import NoKernel
from lab import Lab

GROUPS = {"disks": vm_disks.SCENARIOS, "failures": vm_failure.SCENARIOS}
SCENARIOS = {scenario.__name__: scenario for group in GROUPS.values() for scenario in group}
SKIPPED_STATUS = 77
MAX_SECONDS = 280  # a test that hangs says where, before ctest ends it


def run_scenarios(lab, scenarios):
    began = time.monotonic()
    for name in ("web-1", "web-2"):
        lab.guest(name)
    lab.start_service()
    web1, web2 = lab.boot("web-1", "web-2")
    lab.start_mountd(web1, web2)
    print(f"two guests are up after {time.monotonic() - began:.1f} s", flush=True)
    for scenario in scenarios:
        began = time.monotonic()
        scenario(lab, web1, web2)
        print(f"{scenario.__name__}: passed in {time.monotonic() - began:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*GROUPS, *SCENARIOS])
    for program in ("vmdkopsd", "mountd", "vmdkops-admin", "vsock-test"):
        parser.add_argument(f"--{program}", required=True)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(MAX_SECONDS)
    scenarios = GROUPS.get(arguments.scenario) or [SCENARIOS[arguments.scenario]]
    try:
        with Lab(vmdkopsd=arguments.vmdkopsd, mountd=arguments.mountd, vmdkops_admin=arguments.vmdkops_admin,
                 vsock_test=arguments.vsock_test) as lab:
            run_scenarios(lab, scenarios)
    except NoKernel as error:
        print(error)
        return SKIPPED_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
