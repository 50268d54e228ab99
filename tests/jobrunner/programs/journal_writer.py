"""Run by the tests as a program: appends records and prints the id of each one acknowledged.

argv: directory, a number of its own, how many.
"""

import sys
from datetime import UTC, datetime

from core_infra.jobrunner import ActionResult, Entry, Journal, Phase, PipelineSignal

directory, me, count = sys.argv[1:]
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
signal = PipelineSignal(repo_owner="acme", repo_name="widgets", issue_title="x" * int(me))
journal = Journal(directory)
for number in range(int(count)):
    result = ActionResult.of(signal, "test", error="x" * (number % 50), ts=NOON)
    name = f"{me}-{number}"
    journal.write([Entry.of_result(signal, result, id=name, phase=Phase.RESULT)])
    print(name, flush=True)
