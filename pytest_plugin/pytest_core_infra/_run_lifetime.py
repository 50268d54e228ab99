"""How long a run lasts: until its process ends, or with pytest-xdist that of its controller.

That process holds the writing end of a FIFO. Whatever reads the FIFO sees its end of file when the
process has ended, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHARED = "core-process-shared"
_FIFO = "core-run"
_INPUT = "core_infra_run"
_RUN = pytest.StashKey["Run"]()


class Run:
    """What all processes of a run have in common.

    Attributes:
        directory: of the programs that they share.
        fifo: its end of file is the end of the run. None if this process cannot know that end: it
            is a worker on another host than the controller, or the file system has no FIFOs.
    """

    def __init__(self, directory: Path, fifo: Path | None) -> None:
        self.directory = directory
        self.fifo = fifo


class OwnRun(Run):
    """A run that lasts as long as this process, at most.

    Args:
        base: the run's temporary directory.
    """

    def __init__(self, base: Path) -> None:
        super().__init__(base / _SHARED, None)
        self._fd = -1
        with contextlib.suppress(OSError):
            os.mkfifo(base / _FIFO, 0o600)
            # To open it for reading as well waits for no reader.
            self._fd = os.open(base / _FIFO, os.O_RDWR | os.O_CLOEXEC)
            os.register_at_fork(after_in_child=self._close)
            self.fifo = base / _FIFO

    def end(self) -> None:
        """End what is shared and no longer used; returns when that has ended."""
        try:
            if self.directory.exists():
                from core_infra.process._shared_process import end_all  # noqa: PLC0415 - see plugin.py

                end_all(self.directory)
        finally:
            self._close()
            if self.fifo is not None:
                self.fifo.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def run_of(config: pytest.Config) -> Run:
    """The run that this process belongs to, or is."""
    if _RUN not in config.stash:
        workerinput = getattr(config, "workerinput", None)
        base = _base(config)
        config.stash[_RUN] = OwnRun(base) if workerinput is None else _joined(base, workerinput)
    return config.stash[_RUN]


def invite(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Let a worker of pytest-xdist know which run it belongs to."""
    if (fifo := run_of(config).fifo) is not None:
        workerinput[_INPUT] = str(fifo)


def end_run(config: pytest.Config) -> None:
    """The run ends, if this process is it."""
    if isinstance(run := config.stash.get(_RUN, None), OwnRun):
        del config.stash[_RUN]
        run.end()


def _base(config: pytest.Config) -> Path:
    paths: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to it from a hook; pytest-xdist goes it, too
    return paths.getbasetemp()


def _joined(base: Path, workerinput: Mapping[str, Any]) -> Run:
    fifo = Path(workerinput.get(_INPUT, ""))
    if _is_held(fifo):
        return Run(fifo.with_name(_SHARED), fifo)
    # It is a worker on another host. The workers there have only the user's directory in common.
    return Run(base.parent / f"{_SHARED}-{workerinput['testrunuid']}", None)


def _is_held(fifo: Path) -> bool:
    """Whether a process of this host has its writing end."""
    try:
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.read(fd, 1)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
