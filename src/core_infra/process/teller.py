"""Tells the bus what happens to processes."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from core_infra.process.events import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    Stream,
)
from core_infra.process.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.framework.bus import Bus
    from core_infra.process.process import Process

_log = logging.getLogger(__name__)


class Teller:
    """A thread that hands events to the bus, so that handlers may do what they like."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: deque[Callable[[], None]] = deque()
        self._more = threading.Condition()
        self._tails: dict[tuple[str, Stream], bytes] = {}
        self._thread = threading.Thread(target=self._run, name="core-infra-events", daemon=True)
        self._thread.start()

    def started(self, process: Process, pid: int) -> None:
        """Tell that it runs."""
        options = process.options
        event = ActionProcessStarted(
            process.id,
            options.argv()[0],
            tuple(options.argv()[1:]),
            os.fspath(options.dir or ""),
            pid,
        )
        self._post(lambda: self._tell(event))

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """Tell each line."""
        self._post(lambda: self._lines(process.id, stream, data))

    def ended(self, process: Process, error: Exception | None) -> None:
        """Tell the end, then let go who waits for it."""
        info = process.info()

        def tell() -> None:
            for stream in Stream:
                if tail := self._tails.pop((process.id, stream), b""):
                    line = tail.decode(errors="replace")
                    self._tell(ActionProcessOutput(process.id, line, stream))
            if info.status is Status.KILLED:
                self._tell(ActionProcessKilled(process.id, process.last_signal))
            self._tell(ActionProcessExited(process.id, info.exit_code, info.duration, error))
            process.done.set()

        self._post(tell)

    def wait(self, process: Process, timeout: float | None) -> bool:
        """Wait until everybody knows."""
        return process.done.wait(timeout)

    def _lines(self, name: str, stream: Stream, data: bytes) -> None:
        *lines, tail = (self._tails.pop((name, stream), b"") + data).split(b"\n")
        for line in lines:
            self._tell(ActionProcessOutput(name, line.decode(errors="replace"), stream))
        self._tails[name, stream] = tail

    def _post(self, job: Callable[[], None]) -> None:
        with self._more:
            self._jobs.append(job)
            self._more.notify()

    def _tell(self, event: object) -> None:
        try:
            self._bus.action(event)
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("handlers failed")

    def _run(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            job()
