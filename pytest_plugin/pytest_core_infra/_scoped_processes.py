"""Processes that several tests share: those of a class, a module, the session, or the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import UnavailableError
from core_infra.process import _shared_process
from core_infra.process._service import Service
from pytest_core_infra._run_lifetime import run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.process._leftovers import Leftover
    from core_infra.process._options import RunOptions
    from core_infra.process._process import Probe, Process
    from core_infra.process._shared_process import SharedProcess, Start


class ProcessesOfScope(Service):
    """Starts programs for all tests of a scope.

    Args:
        request: the request of the fixture.

    Attributes:
        shared_processes: the programs that all workers of the run share, by name.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__()
        self._config = request.config
        self.shared_processes: dict[str, SharedProcess] = {}

    def shared(
        self,
        name: str,
        start: RunOptions | Start | Callable[[Path], RunOptions | Start],
        ready: Probe | Sequence[Probe] = (),
    ) -> SharedProcess:
        """Start one program for all workers of pytest-xdist; returns when it is ready.

        The first worker that asks for it starts it, and the others get its facts. It ends with the
        run, even if the run is killed. Workers on another host than pytest-xdist's controller share
        a program there, which ends when none of them uses it.

        Args:
            name: must be unique in the run.
            start: how to start it; or a function that returns this. Only the worker that starts it
                calls the function, with a directory for the program's files.
            ready: the probes that wait until it is ready. Named groups of a LogPattern become
                facts.

        Raises:
            InvalidError: the name or the start is invalid.
            UnavailableError: it does not start, does not become ready, or has ended.
        """
        if name not in self.shared_processes:
            run = run_of(self._config)
            self.shared_processes[name] = _shared_process.join(
                self, run.directory, name, start, ready, until=run.fifo
            )
        else:
            self.shared_processes[name].check()
        return self.shared_processes[name]

    def shutdown(self) -> None:
        """Leave shared programs, and stop the others."""
        try:
            while self.shared_processes:
                self.shared_processes.popitem()[1].leave()
        finally:
            super().shutdown()


class ScopedProcesses:
    """The processes of a scope, seen from one of its tests.

    Attributes:
        fixture: the fixture that started them.
        service: their service.
    """

    def __init__(self, service: ProcessesOfScope, fixture: str) -> None:
        self.fixture = fixture
        self.service = service
        self._written: dict[Process, int] = {}

    def start_test(self) -> None:
        """Note what was written before this test; fail the test if a shared process has ended."""
        self._written = {process: process.written for process in self.service.list()}
        for shared in self.service.shared_processes.values():
            try:
                shared.check()
            except UnavailableError as error:
                pytest.fail(str(error), pytrace=False)

    def written(self, process: Process) -> int:
        """The offset in the output of a process at which the test started."""
        return self._written.get(process, 0)

    def shared_sections(self) -> list[tuple[str, str]]:
        """The last lines of shared processes, for the report of a failed test."""
        return [
            (f"shared process {name} ({shared.ended() or 'running'})", shared.tail())
            for name, shared in self.service.shared_processes.items()
        ]

    def leftovers(self) -> list[Leftover]:
        """What programs have left running that have ended themselves."""
        return [
            leftover
            for leftover in self.service.leftovers()
            if leftover.process is None or leftover.process.over.is_set()
        ]
