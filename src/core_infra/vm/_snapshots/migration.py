"""Save and restore a machine's state with QEMU's migration."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import os, time
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm import _disks
from core_infra.vm._free_space import is_full, no_room
from core_infra.vm._io_pause import LOG
from core_infra.vm._snapshots.snapshot import STATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._hypervisors.qmp import Qmp
    from core_infra.vm._vmm_process import VmmProcess

_POLL = 0.002
_PIECE = 1 << 20
_UNDER_WAY = {None, "none", "setup", "active", "device", "pre-switchover"}


def save(process: VmmProcess, directory: Path, *, with_memory: bool, timeout: float) -> None:
    """Write the state of a stopped machine, and its disks, to *directory*.

    Args:
        process: stopped (QMP ``stop``), so that nothing changes meanwhile.
        directory: where the files go.
        with_memory: the memory, too; without, it must be in a shared file of its own.
        timeout: seconds that it may take.

    Raises:
        UnavailableError: QEMU could not do it; says why.
        TimeoutExpiredError: it took longer.
    """
    _capabilities(process.qmp, with_memory=with_memory)
    if with_memory:  # the default is for a network that others use
        process.qmp.execute("migrate-set-parameters", max_bandwidth=1 << 40)
    process.qmp.execute("migrate", uri=f"exec:cat >{shlex.quote(str(directory / STATE))}")
    try:
        _await(process, "saved", timeout)
    except UnavailableError as error:
        if is_full(directory):
            raise no_room("a machine's state", directory) from error
        raise
    _disks.save_layers(process.disks, process.spec.disks, directory)


def stream(process: VmmProcess, write: Callable[[bytes], object], *, timeout: float) -> None:
    """Write the state of a stopped machine, with its memory, piece by piece; not its disks.

    Raises:
        UnavailableError: QEMU could not do it; says why.
        TimeoutExpiredError: it took longer.
    """
    _capabilities(process.qmp, with_memory=True)
    process.qmp.execute("migrate-set-parameters", max_bandwidth=1 << 40)
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as source:  # noqa: PTH123 - a descriptor
        try:
            process.qmp.execute("getfd", fds=[theirs], fdname="state")
        finally:
            os.close(theirs)
        process.qmp.execute("migrate", uri="fd:state")
        while data := source.read(_PIECE):
            write(data)
    _await(process, "saved", timeout)


def restore(process: VmmProcess, state: Path, *, with_memory: bool, timeout: float) -> None:
    """Load the file *state* into a process that waits for it; the machine stays stopped.

    Raises:
        UnavailableError: QEMU could not do it; says why.
        TimeoutExpiredError: it took longer.
    """
    _capabilities(process.qmp, with_memory=with_memory)
    process.qmp.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
    _await(process, "restored", timeout)


def _capabilities(qmp: Qmp, *, with_memory: bool) -> None:
    ignore: dict[str, Any] = {"capability": "x-ignore-shared", "state": not with_memory}
    qmp.execute("migrate-set-capabilities", capabilities=[ignore])


def _await(process: VmmProcess, done: str, timeout: float) -> None:
    # Polled: QEMU's event must be enabled first, and says less.
    deadline = time.monotonic() + timeout
    while True:
        answer = process.qmp.execute("query-migrate")
        status = answer.get("status")
        if status == "completed":
            return
        if status not in _UNDER_WAY:
            log = (process.directory / LOG).read_text(errors="replace").strip()
            raise UnavailableError(
                f"a machine could not be {done}",
                why=answer.get("error-desc") or log or f"QEMU says {status}",
            )
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(
                f"a machine was not {done} within {timeout:.0f} s", timeout=timeout
            )
        time.sleep(_POLL)
