"""Several machines at one moment: what each had sent is received, or under way, in each copy.

First the switch keeps all frames, while the guests' processes are stopped; the guests' kernels
still run, and take what was delivered to them. Only then the processors stop, so QEMU has no frame
left that it would drop. What was sent until then is read by the switch, and copied with the rest,
as is what a guest has not taken.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from core_infra._unpatched import time
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._names import plain_name
from core_infra.vm._snapshots.resume import RESUME_TIMEOUT, freeze_processes, unquiesce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from core_infra.vm._network.lan import Lan
    from core_infra.vm._network.under_way import Frames
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._vmm_process import VmmProcess

T = TypeVar("T")
R = TypeVar("R")
_PATIENCE = 0.5
"""Seconds, before scaling, that a guest may take to read the next frame."""


class Node(NamedTuple):
    """A machine that is to be cloned with others.

    Attributes:
        name: its name.
        source: what it is cloned from.
        directory: where its files go.
        past: what to append to the console's log first.
        connect: connects its cards.
        cards: the setup of its cards, and the names of the others; empty: as they were saved.
    """

    name: str
    source: CloneSource
    directory: Path
    past: bytes
    connect: Callable[[VmmProcess], None]
    cards: bytes = b""


@contextlib.contextmanager
def standing_still(
    processes: Sequence[VmmProcess], networks: Sequence[Lan]
) -> Iterator[tuple[list[str], list[Frames]]]:
    """Within the block some machines are quiesced at one moment, and continue afterwards.

    Yields the nonces of their agents' sessions, and the frames under way on each network.
    """
    limit = timeouts.scaled(RESUME_TIMEOUT) * len(processes)
    frozen: list[VmmProcess] = []
    with ThreadPoolExecutor(len(processes)) as pool, contextlib.ExitStack() as undo:
        for network in networks:
            undo.enter_context(network.held())
        undo.callback(lambda: _all(pool, lambda one: unquiesce(one, limit), frozen))

        def freeze(process: VmmProcess) -> None:
            freeze_processes(process, limit)
            frozen.append(process)

        _all(pool, freeze, processes)
        _await_delivered(networks, timeouts.scaled(_PATIENCE))
        _all(pool, lambda one: one.qmp.execute("stop"), processes)
        nonces = [process.agent.nonce for process in processes]
        unread = {
            (plain_name(process.spec.name), card): frames
            for process, cards in zip(
                processes, _all(pool, lambda one: one.unread_frames(), processes), strict=True
            )
            for card, frames in enumerate(cards)
        }
        yield nonces, [network.frames_under_way(unread) for network in networks]


def start_together(
    nodes: Sequence[Node],
    networks: Sequence[tuple[Lan, Frames]],
    resume: Callable[[Node, VmmProcess], Mapping[str, str]],
    *,
    die_with_parent: bool,
) -> list[tuple[VmmProcess, Mapping[str, str]]]:
    """Clone some machines, and let them continue with the frames that were under way.

    Args:
        nodes: the machines.
        networks: their networks, and the frames that are under way there.
        resume: resumes and verifies one; returns what its agent reports of the guest.
        die_with_parent: they end when this process does.
    """
    with ThreadPoolExecutor(len(nodes)) as pool, contextlib.ExitStack() as undo:

        def clone(node: Node) -> VmmProcess:
            process = node.source.clone(
                node.directory, name=node.name, past=node.past, die_with_parent=die_with_parent
            )
            undo.callback(process.end)
            return process

        with contextlib.ExitStack() as holds:
            for network, _ in networks:
                holds.enter_context(network.held())
            processes = _all(pool, clone, nodes)
            for node, process in zip(nodes, processes, strict=True):
                node.connect(process)
            for network, frames in networks:
                network.add_frames(frames)
            infos = list(pool.map(resume, nodes, processes))
        undo.pop_all()
    return list(zip(processes, infos, strict=True))


def _all(pool: ThreadPoolExecutor, do: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Do it for all at once; raises the first error when all are done."""
    futures = [pool.submit(do, item) for item in items]
    results = [future.exception() for future in futures]
    for error in results:
        if error is not None:
            raise error
    return [future.result() for future in futures]


def _await_delivered(networks: Sequence[Lan], patience: float) -> None:
    """Wait until the guests have read what was delivered, or do not read any more."""
    last, since = -1, time.monotonic()
    while unread := sum(network.unread() for network in networks):
        if unread != last:
            last, since = unread, time.monotonic()
        elif time.monotonic() - since > patience:
            return
        time.sleep(0.001)
