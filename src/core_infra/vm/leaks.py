"""What machines left behind that nobody holds any more: processes and directories."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from core_infra.vm.rundir import RECORD, own_runs

INTERNAL = "."
"""What the names of directories begin with that belong to no machine of a user."""


def left_behind(run: Path, machines: set[str], kept: set[int]) -> list[str]:
    """What is left in a run directory, and of this process's children: a line for each.

    Args:
        run: the run directory.
        machines: the names of the directories whose machines somebody holds.
        kept: processes that shall live on.
    """
    # Other launchers of this process account for their own.
    others = [path for path in own_runs() if path != run]
    accounted = {*kept, *(_recorded(path) for other in others for path in other.iterdir())}
    left = []
    for path in sorted(path for path in run.iterdir() if path.is_dir()):
        if path.name in machines or path.name.startswith(INTERNAL):
            accounted.add(_recorded(path))
        else:
            left.append(f"the directory {path}")
    return left + [
        f"process {pid}: {' '.join(command)[:200]}"
        for pid in _children()
        if pid not in accounted and "qemu" in Path((command := _command(pid))[0]).name
    ]


def _recorded(directory: Path) -> int | None:
    try:
        return int(json.loads((directory / RECORD).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _children() -> list[int]:
    """The processes that this one has started, where the kernel tells (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] or [""]
    except OSError:
        return [""]
