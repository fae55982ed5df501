#!/usr/bin/python3
"""Runs one end-to-end scenario: scenarios.py SCENARIO --mountd PATH. Needs root; see harness.py for what it
starts and how it cleans up."""
import argparse
import sys
import time

import scenarios_failure
import scenarios_hosts
import scenarios_input
import scenarios_use
from harness import Lab

MODULES = (scenarios_use, scenarios_failure, scenarios_input, scenarios_hosts)
SCENARIOS = {scenario.__name__: scenario for module in MODULES for scenario in module.SCENARIOS}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="+", choices=[*SCENARIOS, "all"])
    parser.add_argument("--mountd", required=True, help="the binary under test")
    parser.add_argument("--service", help="vmdkopsd: the disks are its, and mountd is a guest of it")
    parser.add_argument("--engine-probe", help="the program that shows what mountd's client of the engine sees")
    arguments = parser.parse_args()
    for name in SCENARIOS if "all" in arguments.scenario else arguments.scenario:
        began = time.monotonic()
        with Lab(mountd=arguments.mountd, engine_probe=arguments.engine_probe,
                 service=arguments.service) as lab:
            SCENARIOS[name](lab)
        print(f"{name}: passed in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
