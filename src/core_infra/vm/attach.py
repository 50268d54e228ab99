"""Enter a machine that a test run left running: ``python -m core_infra.vm.attach PID``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import sys
import termios
import tty
from typing import TYPE_CHECKING

from core_infra.vm.rundir import RECORD, kept_machines
from core_infra.vm.wires import short_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LEAVE = b"\x1d"  # Ctrl-], as telnet has it
_CHUNK = 1 << 16


def main(argv: Sequence[str] | None = None) -> int:
    """Connect this terminal with a kept machine's console; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m core_infra.vm.attach",
        description="Enter a machine that was left running by --core-vm-keep: its serial console.",
    )
    parser.add_argument("pid", type=int, help="the process id that the test run's end names")
    pid = parser.parse_args(argv).pid
    kept = {json.loads((path / RECORD).read_text())["pid"]: path for path in kept_machines()}
    if pid not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        sys.stderr.write(f"No kept machine has the process id {pid}. Those that run: {known}.\n")
        return 1
    with socket.socket(socket.AF_UNIX) as console:
        with short_path(kept[pid] / "console.sock") as address:
            console.connect(address)
        sys.stderr.write("The machine's console. Enter shows a prompt; Ctrl-] leaves.\n")
        with _raw_terminal():
            ended = _forward(console)
    sys.stderr.write("\nThe machine has ended.\n" if ended else f"\nIt runs on: kill {pid}\n")
    return 0


def _forward(console: socket.socket) -> bool:
    """Carry bytes both ways until one side ends; whether it was the machine."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.buffer
    while True:
        ready, _, _ = select.select([keyboard, console], [], [])
        if console in ready:
            data = console.recv(_CHUNK)
            if not data:
                return True
            screen.write(data)
            screen.flush()
        if keyboard in ready:
            typed, leave, _ = os.read(keyboard, _CHUNK).partition(_LEAVE)
            console.sendall(typed)
            if leave or not typed:
                return False


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass every key on, Ctrl-C too, where there is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main())
