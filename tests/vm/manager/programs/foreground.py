"""Runs a machine in the foreground, and prints its last status."""

from __future__ import annotations

import sys
from pathlib import Path

from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import State


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    manager = LinuxKitManager(state=State(Path(sys.argv[1])), progress=show)
    show(f"it is {manager.run('default', RunOptions(name='front')).status}")
