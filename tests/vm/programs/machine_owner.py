"""Run by test_machine.py: holds a machine until its input ends.

machine_owner.py KIND: "outlive" if the machine may outlive it. Prints the machine's process id and
the run directory.
"""

import sys

from core_infra.vm import Launcher

launcher = Launcher(accelerator="tcg", outlive=sys.argv[1] == "outlive")
machine = launcher.boot()
sys.stdout.write(f"{machine.pid} {launcher.run.path}\n")
sys.stdout.flush()
sys.stdin.read()
