"""The host of a shared process.

Started as ``python -m core_infra.process._shared_process_host HOME LISTENER [FIFO]``.

See :mod:`core_infra.process._shared_process`.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import queue
import selectors
import sys
import threading
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from core_infra._unpatched import Path, os, signal, socket
from core_infra.process._log_pattern import LogPattern
from core_infra.process._service import Service
from core_infra.process._shared_process import BYE, LOG, OVER, SOCKET, START, Start, lock_path

if TYPE_CHECKING:
    from core_infra.process._process import Process

_CHUNK = 1024
_WRITTEN = 5.0
"""Seconds to wait until the last output of a program that has ended is in its file."""


class _Host:
    """Starts the program, reports on it to participants, and ends with the last one or the run.

    Args:
        home: the program's directory.
        listener: participants connect to it.
        fifo: its end of file is the end of the run; None: the run ends with the last participant.
    """

    def __init__(self, home: Path, listener: socket.socket, fifo: Path | None) -> None:
        self._home = home
        self._listener = listener
        self._service = Service()
        self._participants: set[socket.socket] = set()
        self._leaving: list[socket.socket] = []
        self._sent = b""  # for participants that join later
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._send_messages)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._run = -1  # the FIFO, as long as the run lasts
        if fifo is not None:
            self._run = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._selector.register(self._run, selectors.EVENT_READ, self._watch_run)
            self._watch_run()  # the kernel does not report an end before our open()

    def run(self) -> None:
        """Serve until the run is over and the last participant has left."""
        self._accept()  # the starter has connected already
        threading.Thread(target=self._run_program, daemon=True).start()
        while True:
            self._serve()
            with FileLock(lock_path(self._home)):  # nobody can join or start another host meanwhile
                self._accept_waiting()
                if self._is_wanted():
                    continue
                self._service.shutdown()
                for name in (SOCKET, START):
                    (self._home / name).unlink(missing_ok=True)
                self._close_leaving()
                return

    def _serve(self) -> None:
        while self._is_wanted():
            self._close_leaving()
            for key, _ in self._selector.select():
                key.data()

    def _is_wanted(self) -> bool:
        return bool(self._participants) or self._run >= 0

    def _watch_run(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._run, 1)
            self._end_run()

    def _end_run(self) -> None:
        if self._run >= 0:
            self._selector.unregister(self._run)
            os.close(self._run)
            self._run = -1

    def _accept_waiting(self) -> None:
        self._listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._accept()
        self._listener.settimeout(None)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._participants.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(connection))
        self._send(connection, self._sent)

    def _receive(self, connection: socket.socket) -> None:
        if connection not in self._participants:
            return
        try:
            data = connection.recv(_CHUNK)
        except OSError:
            data = b""
        self._participants.discard(connection)
        self._selector.unregister(connection)
        if data == OVER:
            self._end_run()
        if data in (BYE, OVER):
            self._leaving.append(connection)
        else:
            connection.close()

    def _close_leaving(self) -> None:
        """Close connections that leave; that ends their wait."""
        while self._leaving:
            self._leaving.pop().close()

    def _send_messages(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._messages.get_nowait()
                if "failed" in message:
                    self._end_run()  # the next participant may try again
                line = json.dumps(message).encode() + b"\n"
                self._sent += line
                for connection in self._participants:
                    self._send(connection, line)

    @staticmethod
    def _send(connection: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended, which _receive() handles
            connection.sendall(data)

    def _run_program(self) -> None:
        """Start the program and wait for it; on a thread of its own."""
        try:
            start: Start = pickle.loads((self._home / START).read_bytes())  # noqa: S301 - the user's own, in a private directory
            process = self._service.start_with_options(start.options)
            writer = threading.Thread(target=self._write, args=(process,), daemon=True)
            writer.start()
            process.wait_ready(*start.ready, timeout=start.timeout)
        except Exception as error:  # noqa: BLE001 - any error is sent to all
            self._queue({"failed": str(error) or type(error).__name__})
            return
        facts = dict(start.facts)
        for probe in start.ready:
            if isinstance(probe, LogPattern) and probe.match is not None:
                facts.update(probe.match.groupdict())
        grace = start.options.grace_period
        self._queue({"facts": facts, "pid": process.pid, "grace": grace})
        code = process.wait()
        writer.join(_WRITTEN)
        self._queue({"ended": f"exit code {code}" if code >= 0 else f"signal {-code}"})

    def _queue(self, message: dict[str, Any]) -> None:
        self._messages.put(message)
        os.eventfd_write(self._wake, 1)

    def _write(self, process: Process) -> None:
        """Write the program's output to its file as it arrives."""
        offset = 0
        with (self._home / LOG).open("ab", buffering=0) as file:
            while (piece := process.read(offset, None)).data:
                file.write(piece.data)
                offset = piece.end


def main() -> None:
    """Serve as the command line says."""
    # Ctrl-C is for the run, at whose end the host ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home, listener, *fifo = sys.argv[1:]
    _Host(Path(home), socket.socket(fileno=int(listener)), Path(fifo[0]) if fifo else None).run()


if __name__ == "__main__":
    main()
