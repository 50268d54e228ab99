"""Run by test_fork_server_life.py: forks a process, and prints a line for each fork.

forking.py [die] [again]: the clones die with this process; fork again and again.
"""

import subprocess
import sys

from forkable import Forkable

process = Forkable.start(stdout=subprocess.DEVNULL)
while True:
    clone = process.fork(die_with_parent="die" in sys.argv)
    sys.stdout.write("\n")
    sys.stdout.flush()
    if "again" not in sys.argv:
        sys.stdin.read()
    clone.close()
