"""Run by the tests as a program: parent and child append with one journal that was open before.

argv: directory.
"""

import os
import sys
from datetime import UTC, datetime

from core_infra.jobrunner import ActionResult, Journal, PipelineSignal

signal = PipelineSignal(repo_owner="acme", repo_name="widgets")
result = ActionResult.of(signal, "test", ts=datetime(2026, 3, 4, tzinfo=UTC))
journal = Journal(sys.argv[1])
journal.append(signal, result)
child = os.fork()
for _ in range(50):
    journal.append(signal, result)
if child and os.waitpid(child, 0)[1]:
    sys.exit("the child failed")
