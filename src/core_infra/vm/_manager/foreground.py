"""A machine in the foreground: its console is this terminal."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.vm._attach import attach

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_CHUNK = 1 << 16


class Foreground:
    """Shows a machine's console until the machine ends, or its user leaves.

    Args:
        console: a connection to it.
        task: something that needs the machine to run; done meanwhile.
        tell: is given a line when that fails.
    """

    def __init__(
        self, console: socket.socket, task: Callable[[], None] | None, tell: Callable[[str], None]
    ) -> None:
        self._console = console
        self._task = task
        self._tell = tell

    def run(self) -> bool:
        """Return when the machine has ended (True), or is to be ended (False).

        That is told by Ctrl-], or by Ctrl-C where there is no terminal: on one it is typed.
        """
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        with self._console:
            if sys.stdin.isatty():
                self._tell("Ctrl-] stops the machine.")
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
                self._tell(str(error))
