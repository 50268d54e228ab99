"""What several tests need."""

import os
import re
import select
from pathlib import Path

from core_infra.errors import UnavailableError


class NoForkServer:
    """In the place of ForkServer: a host that has none."""

    def __init__(self) -> None:
        raise UnavailableError("this host has no fork server")


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_gone(pid: int) -> None:
    """Wait for a process that is not our child, by its pidfd: no polling."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 30)[0], f"{pid} still runs"
    finally:
        os.close(handle)


def left_in(runs: Path) -> list[str]:
    """What pytest runs have left in the directory of their machines."""
    return sorted(path.name for path in runs.iterdir() if path.name != ".lock")


def section(text: str, title: str) -> str:
    """The part of pytest's output below the line with *title*, up to the next of its kind."""
    rest = text.partition(title)[2].partition("\n")[2]
    lines = []
    for line in rest.splitlines():
        if line.startswith(("____", "====")):
            break
        lines.append(line)
    return "\n".join(lines)


def ways(text: str) -> tuple[str, int]:
    """The commands that a run names to enter and to end a machine."""
    enter = re.search(r"enter it: (.*)", text)
    end = re.search(r"end it:   kill (\d+)", text)
    assert enter
    assert end
    return enter[1], int(end[1])
