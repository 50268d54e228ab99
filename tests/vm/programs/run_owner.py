"""Run by test_run_directory.py: holds a run directory until its input ends; prints its path."""

import sys

from core_infra.vm._run_directory import RunDirectory

sys.stdout.write(f"{RunDirectory().path}\n")
sys.stdout.flush()
sys.stdin.read()
