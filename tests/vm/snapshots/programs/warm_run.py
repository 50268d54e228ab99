"""A run with warm templates: prints the process ids of its machines, then waits to be killed."""

import sys

from core_infra.vm import Launcher

with Launcher(accelerator="tcg", memory=128, ready=0, warm=5) as launcher:
    machines = [launcher.clone() for _ in range(2)]
    print(*[machine.pid for machine in machines], flush=True)
    sys.stdin.read()
