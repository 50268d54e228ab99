"""The lifetime of a run: until its process ends; with pytest-xdist, until its controller ends.

That process holds the write end of a FIFO. A reader of the FIFO sees end of file when the process
has ended, even by SIGKILL.
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
    """What all processes of a run share.

    Attributes:
        directory: the directory of shared programs.
        fifo: its end of file is the end of the run. None if this process cannot detect the end:
            it is a worker on another host than the controller, or the file system has no FIFOs.
    """

    def __init__(self, directory: Path, fifo: Path | None) -> None:
        self.directory = directory
        self.fifo = fifo


class OwnRun(Run):
    """A run that ends with this process, at the latest.

    Args:
        base: the run's temporary directory.
    """

    def __init__(self, base: Path) -> None:
        super().__init__(base / _SHARED, None)
        self._fd = -1
        with contextlib.suppress(OSError):
            os.mkfifo(base / _FIFO, 0o600)
            # Opened for reading, too: so this does not wait for a reader.
            self._fd = os.open(base / _FIFO, os.O_RDWR | os.O_CLOEXEC)
            os.register_at_fork(after_in_child=self._close)
            self.fifo = base / _FIFO

    def end(self) -> None:
        """End shared programs that are not used any more; return when they have ended."""
        try:
            if self.directory.exists():
                from core_infra.process._shared_process import end_all  # noqa: PLC0415 - imported only if it is used

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
    """The run that this process belongs to."""
    if _RUN not in config.stash:
        workerinput = getattr(config, "workerinput", None)
        base = _base(config)
        config.stash[_RUN] = OwnRun(base) if workerinput is None else _joined(base, workerinput)
    return config.stash[_RUN]


def invite(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Tell a worker of pytest-xdist which run it belongs to."""
    if (fifo := run_of(config).fifo) is not None:
        workerinput[_INPUT] = str(fifo)


def end_run(config: pytest.Config) -> None:
    """End the run, if this process is its controller."""
    if isinstance(run := config.stash.get(_RUN, None), OwnRun):
        del config.stash[_RUN]
        run.end()


def _base(config: pytest.Config) -> Path:
    paths: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]  # noqa: SLF001 - the only way from a hook; pytest-xdist uses it, too
    return paths.getbasetemp()


def _joined(base: Path, workerinput: Mapping[str, Any]) -> Run:
    fifo = Path(workerinput.get(_INPUT, ""))
    if _is_held(fifo):
        return Run(fifo.with_name(_SHARED), fifo)
    # A worker on another host. The workers there share only the user's directory.
    return Run(base.parent / f"{_SHARED}-{workerinput['testrunuid']}", None)


def _is_held(fifo: Path) -> bool:
    """Whether a process of this host has its write end open."""
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
