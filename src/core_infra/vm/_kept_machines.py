"""Machines that a test run left running (``--core-vm-keep``), for other processes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._manager.process_identity import ForeignProcess
from core_infra.vm._manager.stop import ask_agent, stop_process
from core_infra.vm._run_directory import RECORD, kept_machines, open_process
from core_infra.vm._timeouts import scaled
from core_infra.vm._vmm_process import AGENT_SOCKET, CONSOLE_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ANSWER = 10.0
"""Seconds, before scaling, that its agent may take to answer."""


class KeptMachine(NamedTuple):
    """A machine that a test run left running.

    Attributes:
        pid: the process id of its hypervisor, by which the run names it.
        name: what it was called in the run.
        owner: the test, or the fixture and its scope, that had it.
        facts: its image's name, memory (MiB) and cpus.
        directory: its files.
        run_config: how its image wants commands to be run, if it says so.
    """

    pid: int
    name: str
    owner: str
    facts: dict[str, Any]
    directory: Path
    run_config: RunConfig | None = None

    @property
    def console(self) -> Path:
        """The socket of its console."""
        return self.directory / CONSOLE_SOCKET

    def enter(
        self, *, timeout: float | None = None, progress: Callable[[str], None] = lambda _line: None
    ) -> AgentAccess:
        """Access by its agent; NoAccessError if that does not answer in time."""
        limit = scaled(_ANSWER) if timeout is None else timeout
        return AgentAccess(
            [self.directory / AGENT_SOCKET], boot=limit, patience=limit, progress=progress
        )

    def stop(self, *, grace: float) -> str:
        """End it, and remove its files; returns how it ended, in words.

        Args:
            grace: seconds that the guest has to shut down by itself; 0: end it at once.
        """
        handle = open_process(self.directory)
        how = "it had ended"
        if handle is not None:
            with ForeignProcess(self.pid, handle) as process:
                how = stop_process(
                    process, lambda: ask_agent([self.directory / AGENT_SOCKET]), grace=grace
                )
        shutil.rmtree(self.directory, ignore_errors=True)
        return how


def kept() -> list[KeptMachine]:
    """The kept machines that run."""
    return [_read(path) for path in kept_machines()]


def find_kept(word: str) -> KeptMachine:
    """The kept machine with this process id, or with this name if only one has it.

    Raises:
        NotFoundError: there is none; names those that there are.
        InvalidError: several have the name.
    """
    known = kept()
    found = [one for one in known if word in (str(one.pid), one.name)]
    shown = ", ".join(f"{one.pid} ({one.name} of {one.owner})" for one in found or known)
    if not found:
        raise NotFoundError(
            f"no kept machine has the {'process id' if word.isdecimal() else 'name'} {word}",
            why=f"those that run: {shown or 'none'}",
        )
    if len(found) > 1:
        raise InvalidError(f"several kept machines are called {word!r}", why=shown)
    return found[0]


def _read(directory: Path) -> KeptMachine:
    record = json.loads((directory / RECORD).read_text())
    facts = {key: record.get(key, "") for key in ("image", "memory", "cpus")}
    run = record.get("run")  # absent in the record of an earlier version
    return KeptMachine(
        record["pid"],
        record["name"],
        record.get("owner", "a test run"),
        facts,
        directory,
        None if run is None else RunConfig(**run),
    )
