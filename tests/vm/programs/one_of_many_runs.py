"""Run by test_run_directory.py, several at once: prints how many other runs it has swept."""

import sys

from core_infra.vm._run_directory import RunDirectory

swept = []
for _ in range(8):
    run = RunDirectory()
    assert run.path.exists()
    swept += run.swept
    run.close()
sys.stdout.write(f"{len(swept)}\n")
