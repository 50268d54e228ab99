"""Run by the tests as a program: a bot that is killed again and again, and what is left.

argv: directory, how many kills, a seed, and the address of a database if each life is on another of
two hosts. Prints one line of JSON: what it counted.

The world that the bot acts on is a file to which each action appends its id; it is elsewhere, so
that what is in it stays. The journal is here: after a kill, what was not brought to the disk is
lost, or is zeros, or is there. Sometimes the index is deleted, the day ends, or earlier days are
pruned. Bots are forked from this process, which has no threads.
"""

# ruff: noqa: S311, BLE001 - random numbers for tests, and every error is reported

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.framework._bus import Bus
from core_infra.jobrunner import (
    ActionJobEnded,
    ActionResult,
    Index,
    Journal,
    Phase,
    PipelineSignal,
    Poller,
    PollerConfig,
    RecordedSource,
    SharedJournal,
    SystemClock,
    Token,
)
from core_infra.jobrunner._journal import day_files
from core_infra.jobrunner._journal.log_file import JournalDirectory

if TYPE_CHECKING:
    from core_infra.jobrunner import Job

BASE = Path(sys.argv[1])
WORLD, TOLD, SYNCED = BASE / "world", BASE / "told", BASE / "synced"
ITEMS = 40
DATABASE = sys.argv[4] if len(sys.argv) > 4 else ""


def journal(host: int = 0) -> Journal:
    """The journal of one of the hosts; with all that others have written."""
    if not DATABASE:
        return Journal(BASE / "journal")
    os.environ["KILLED_BOT"] = DATABASE
    shared = SharedJournal(BASE / "journal" / f"host{host}", Token(env="KILLED_BOT"))
    shared.pull()
    return shared


class Past(SystemClock):
    """The time some days ago."""

    def __init__(self, days: int) -> None:
        self.days = days

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(self.days)


class Post:
    """Appends to the world; can look there."""

    name = "post"

    def match(self, signal: PipelineSignal) -> bool:
        return bool(signal.last_commit_sha)

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        del signal
        return job.id in WORLD.read_text().split()

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        append(WORLD, f"{job.id} {signal.child_number} {signal.last_commit_sha}\n")
        if random.random() < 0.05:
            raise OSError("it was posted, but the answer was lost")
        return job.done()


def append(path: Path, line: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


def remember_syncs() -> None:
    """Write down, where a kill cannot reach it, how much of each file is on the disk."""
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        info = os.fstat(fd)
        time.sleep(random.random() * 0.004)  # a slower disk: more is lost
        real(fd)
        append(SYNCED, f"{info.st_ino} {info.st_size}\n")

    os.fdatasync = fdatasync  # type: ignore[assignment]


def live(state: int, host: int, days_ago: int) -> None:
    remember_syncs()
    bus = Bus()
    bus.register_action(lambda event: append(TOLD, f"{event.job.id}\n"), ActionJobEnded)
    signals = [
        PipelineSignal(
            repo_owner="acme", repo_name="widgets", child_number=n, last_commit_sha=f"s{state}"
        )
        for n in range(1, ITEMS + 1)
    ]
    source = RecordedSource(signals)
    clock = Past(days_ago)
    config = PollerConfig([source], [Post()], journal(host), poll_interval=0, bus=bus, clock=clock)
    with Poller(config) as poller:
        for _ in range(6):  # what failed is tried again
            poller.run_once()


def lose_what_was_not_synced(dice: random.Random) -> int:
    lost = 0
    synced: dict[int, int] = {}
    for line in SYNCED.read_text().split("\n"):
        if line.count(" ") == 1:
            inode, size = map(int, line.split())
            synced[inode] = max(size, synced.get(inode, 0)) if size else 0
    for path in (BASE / "journal").rglob("*.jsonl"):
        info = path.stat()
        certain = synced.get(info.st_ino, 0)
        if info.st_size <= certain:
            continue
        lost += 1
        cut = dice.randint(certain, info.st_size)
        data = path.read_bytes()
        zeros = bytes(len(data) - cut) if dice.random() < 0.5 else b""
        path.write_bytes(data[:cut] + zeros)
    return lost


def prune(days_ago: int) -> int:
    """Prune the files of all days before the present one; how many there were."""
    pruned = 0
    for path in [BASE / "journal", *(BASE / "journal").glob("host*")]:
        inodes = {str(one.relative_to(path)): one.stat().st_ino for one in path.rglob("*.jsonl")}
        for gone in Journal(path).prune(Past(days_ago).now().date()):
            append(SYNCED, f"{inodes[gone]} 0\n")  # the next file with this number is another one
            pruned += 1
    return pruned


def one_life(state: int, dice: random.Random, days_ago: int, *, within: float | None) -> bool:
    host = dice.randrange(2)
    child = os.fork()
    if child == 0:
        random.seed(dice.random())
        try:
            live(state, host, days_ago)
        except BaseException as error:
            append(BASE / "errors", f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    if within is not None:
        time.sleep(dice.random() * within)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def count() -> dict[str, Any]:
    last_journal = journal()
    where = last_journal.base_dir
    every = list(day_files.records(JournalDirectory(where)))  # those of pruned days, too
    entries = [entry for path in every for entry, _ in last_journal.read(path)]
    ended = {entry.id for entry in entries if entry.phase in {Phase.RESULT, Phase.UNKNOWN}}
    posts = Counter(line.split()[0] for line in WORLD.read_text().splitlines())
    last = [line.split()[2] for line in WORLD.read_text().splitlines()]
    with Index(last_journal) as index:
        index.rebuild()
        pending = len(index.pending())
    return {
        "actions": len(posts),
        "twice": sum(times > 1 for times in posts.values()),
        "acknowledged_and_lost": len(set(TOLD.read_text().split()) - ended),
        "open": pending,
        "not_done": ITEMS - last.count(last[-1]),
        # A day that ended in the middle of a line stays so; nobody writes to its file again.
        "breaks": sum(not one.torn for check in last_journal.verify() for one in check.breaks),
        "lines": len(entries),
    }


def main() -> None:
    kills, dice = int(sys.argv[2]), random.Random(int(sys.argv[3]))
    for path in (WORLD, TOLD, SYNCED):
        path.touch()
    state = survived = lost = pruned = 0
    days_ago = kills
    start = time.monotonic()
    assert one_life(state, dice, days_ago, within=None)
    within = (time.monotonic() - start) * 1.2
    for _ in range(kills):
        state += dice.random() < 0.7
        survived += one_life(state, dice, days_ago, within=within)
        lost += lose_what_was_not_synced(dice)
        if dice.random() < 0.05:
            for index in (BASE / "journal").rglob(".index.sqlite3"):
                index.unlink()
        days_ago -= dice.random() < 0.1
        if dice.random() < 0.1:
            pruned += prune(days_ago)
    assert one_life(state, dice, days_ago, within=None)
    counted = {"survived": survived, "lost_data": lost, "pruned": pruned}
    print(json.dumps({**counted, **count()}))


main()
