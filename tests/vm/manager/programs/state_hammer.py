"""Sixteen processes that add, update and remove at once, killed at random: what is remembered then?

    python tests/vm/manager/programs/state_hammer.py DIRECTORY KILLS [SECONDS]

Each worker writes in a journal of its own what it is about to do, and that it is done. Afterwards
the state must be what the journals say; only for what a kill interrupted, before and after are both
right. This process has no threads, so that it can fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from core_infra.vm._manager.record import Container, ContainerStatus
from core_infra.vm._manager.state_file import State

WORKERS = 16


def main(directory: Path, kills: int, seconds: float = 0.0) -> None:
    warnings.simplefilter("error")  # that the file was damaged would be one
    state = State(directory)
    pids = {number: start(directory, number, 0) for number in range(WORKERS)}
    try:
        killed = hammer(directory, state, pids, kills, seconds)
    finally:
        for pid in pids.values():
            end(pid)
    operations = sum(check(directory, number, state) for number in range(WORKERS))
    known = {id_ for number in range(WORKERS) for id_ in possible(directory, number)}
    assert set(state.load()) <= known
    assert not list(directory.glob("*.damaged-*"))
    sys.stdout.write(json.dumps({"kills": killed, "operations": operations}))


def hammer(directory: Path, state: State, pids: dict[int, int], kills: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    killed = 0
    chance = random.Random(kills)  # noqa: S311 - no secret
    while killed < kills or time.monotonic() < deadline:
        time.sleep(chance.uniform(0, 0.02))
        for container in state.load().values():  # never torn, at any moment
            assert container.name == f"name-{container.id}"
        number = chance.randrange(WORKERS)
        end(pids[number])
        killed += 1
        pids[number] = start(directory, number, killed)
    return killed


def start(directory: Path, number: int, seed: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work(directory, number, random.Random(seed * WORKERS + number))  # noqa: S311
    finally:
        os._exit(1)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"a worker ended by itself: {status}"


def work(directory: Path, number: int, chance: random.Random) -> None:
    parent = os.getppid()
    state = State(directory)
    mine = {id_: values for id_, values in state.load().items() if owner(id_) == number}
    with journal(directory, number).open("a", buffering=1) as log:

        def note(kind: str, id_: str, memory: int | None) -> None:
            log.write(json.dumps([kind, id_, memory]) + "\n")

        while os.getppid() == parent:
            choice = chance.random()
            memory = chance.randrange(1, 1 << 20)
            if choice < 0.5 or not mine:
                id_ = f"{number:02x}{chance.randrange(1 << 24):06x}"
                if id_ in mine:
                    continue
                note("begin", id_, memory)
                container = Container(id=id_, name=f"name-{id_}", image="i", memory=memory)
                state.add(container)
                mine[id_] = container
                note("done", id_, memory)
                continue
            id_ = chance.choice(sorted(mine))
            if choice < 0.7:
                note("begin", id_, memory)
                state.update(id_, memory=memory, status=ContainerStatus.STOPPED)
                note("done", id_, memory)
            else:
                note("begin", id_, None)
                state.remove(id_)
                del mine[id_]
                note("done", id_, None)


def owner(id_: str) -> int:
    return int(id_[:2], 16)


def journal(directory: Path, number: int) -> Path:
    return directory / f"journal-{number}"


def entries(directory: Path, number: int) -> list[list[Any]]:
    path = journal(directory, number)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def possible(directory: Path, number: int) -> dict[str, set[int | None]]:
    """What may be remembered of each id: None is nothing."""
    found: dict[str, set[int | None]] = {}
    for kind, id_, memory in entries(directory, number):
        before = found.get(id_, {None})
        found[id_] = {memory} if kind == "done" else before | {memory}
    return found


def check(directory: Path, number: int, state: State) -> int:
    known = state.load()
    for id_, values in possible(directory, number).items():
        found = known[id_].memory if id_ in known else None
        assert found in values, f"{id_} is {found}, and should be one of {values}"
    return len(entries(directory, number))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))
