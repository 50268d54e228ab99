"""Run by the tests as a program: leads a journal, and forks a child that outlives it.

argv: directory. Both processes read standard input until it ends.
"""

import os
import sys

from core_infra.jobrunner import Journal
from core_infra.jobrunner._leadership import Leadership

leadership = Leadership(Journal(sys.argv[1]))
leadership.acquire()
if not os.fork():
    print("forked", flush=True)
sys.stdin.read()
