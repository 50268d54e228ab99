"""What machines left behind that nobody holds any more: processes and directories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from core_infra.vm._run_directory import INTERNAL, RECORD, own_runs
from core_infra.vm._vmm_process import living

if TYPE_CHECKING:
    from pathlib import Path


def left_behind(run: Path, machines: set[str], kept: set[int]) -> list[str]:
    """What is left in a run directory, and of the hypervisors of this process: a line for each.

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
    return left + [f"the hypervisor with process id {pid}" for pid in living() - accounted]


def _recorded(directory: Path) -> int | None:
    try:
        return int(json.loads((directory / RECORD).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None
