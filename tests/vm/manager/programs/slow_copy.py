"""Copies into a machine, with a source that stops giving anything half way."""

from __future__ import annotations

import io
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._cli.exit_codes import ending_in_order
from core_infra.vm._access import file_copy
from core_infra.vm._guest import tree_transfer
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.state_file import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._access.interface import RunningCommand


def half(*_: object) -> Iterator[bytes]:
    yield b"half of it"
    stop()


def stop() -> None:
    sys.stdout.write("half\n")
    sys.stdout.flush()
    time.sleep(600)


def half_a_tree(process: RunningCommand, path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(path / "file", "file")
    process.send_input(archive.getvalue()[:1024])
    stop()


if __name__ == "__main__":
    state, machine, source, target = sys.argv[1:]
    vars(file_copy)["data_of"] = half
    vars(tree_transfer)["send_tree"] = half_a_tree
    access = LinuxKitManager(state=State(Path(state))).enter(machine)
    try:
        with ending_in_order():
            file_copy.push(access, source, target)
    finally:
        access.close()
