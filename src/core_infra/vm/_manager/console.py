"""The console of a machine: in the foreground on this terminal, and its log."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.vm._attach import attach

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.vm._manager.process_identity import ForeignProcess

_CHUNK = 1 << 16
_INTERVAL = 0.1


class Foreground:
    """Shows a machine's console until the machine ends, or its user stops it.

    Args:
        console: a connection to it.
        task: called on a thread while the machine runs; None for nothing.
        progress: called with a line if the task fails.
    """

    def __init__(
        self,
        console: socket.socket,
        task: Callable[[], None] | None,
        progress: Callable[[str], None],
    ) -> None:
        self._console = console
        self._task = task
        self._progress = progress

    def run(self) -> bool:
        """Return when the machine has ended (True), or the user wants to stop it (False).

        On a terminal Ctrl-] stops it; Ctrl-C goes to the machine. Without a terminal, Ctrl-C does.
        """
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        with self._console:
            if sys.stdin.isatty():
                self._progress("Ctrl-] stops the machine.")
                return attach(self._console)
            try:
                while data := self._console.recv(_CHUNK):
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
            except KeyboardInterrupt:
                return False
            return True

    def _work(self) -> None:
        if self._task is not None:
            try:
                self._task()
            except CoreInfraError as error:
                self._progress(str(error))


def follow_log(path: Path, process: ForeignProcess | None) -> Iterator[bytes]:
    """The content of a log, piece by piece.

    Args:
        path: the log.
        process: follow the log until this process ends; None stops at the log's end. It is closed.
    """
    try:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            while True:
                # Checked before reading, so that the last bytes are read after the process's end.
                ended = process is None or process.wait(0)
                while data := file.read(_CHUNK):
                    yield data
                if ended:
                    return
                assert process is not None  # noqa: S101 - else `ended` is true
                process.wait(_INTERVAL)
    finally:
        if process is not None:
            process.close()
