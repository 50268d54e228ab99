"""VMM processes that come from the warm helper, and go to it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from core_infra.process._child import Child
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._io_pause import LOG
from core_infra.vm._run_directory import RECORD, write_record
from core_infra.vm._vmm_process import VmmProcess
from core_infra.vm._vmm_sockets import SocketPairs

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._warm.client import WarmHelper


def lease(
    helper: WarmHelper, key: str, spec: MachineSpec, accelerator: str, directory: Path
) -> tuple[VmmProcess, str] | None:
    """A clone of a template, stopped, and the nonce of its agent's last session; None: no such one.

    Args:
        helper: has the template.
        key: what that was made from.
        spec: the same machine.
        accelerator: how its instructions run.
        directory: where the clone's files go.

    Raises:
        UnavailableError: it cannot be cloned.
        TimeoutExpiredError: that took too long.
    """
    sockets = SocketPairs(spec.cards)
    server = ForkServer.of_clone(adopted=True)
    with contextlib.ExitStack() as undo:
        undo.callback(sockets.close)
        undo.callback(server.close)  # the clone ends with that
        with (directory / LOG).open("ab") as log:
            found = helper.lease(key, sockets.fds, log.fileno(), server)
        if found is None:
            return None
        pid, nonce, numbers = found
        child = Child([f"template {key}"], pid, server.exit_code, adopted=True)
        undo.callback(child.kill)
        sockets.inherited()
        write_record(directory, pid, name=spec.name)
        process = VmmProcess(
            child, sockets, directory, numbers, spec=spec, accelerator=accelerator, server=server
        )
        undo.pop_all()
    return process, nonce


def leave(helper: WarmHelper, key: str, process: VmmProcess, nonce: str, what: str) -> None:
    """Leave a stopped process with the helper, which has started it, as a template.

    Args:
        helper: gets it.
        key: what it was made from.
        process: the process; it ends if the helper does not take it.
        nonce: that of its agent's last session.
        what: what it is, for users.
    """
    try:
        assert process.server is not None  # noqa: S101 - it was started with one
        helper.deposit(key, nonce, process.fds, what, [process.server.control, *process.ends])
    except BaseException:
        process.end()
        raise
    (process.directory / RECORD).unlink()  # else it would end with what a killed run has left
    process.leave()
