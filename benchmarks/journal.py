"""The cost of durability: the journal, a bare fdatasync, SQLite, and a whole cycle.

Run: python benchmarks/journal.py [--json FILE] [--rounds N] [--directory DIR]

All take turns in each round, so that load affects all equally. The table has the medians of the
rounds; the ratios are medians of the ratios in each round. The peer is SQLite in WAL mode with
synchronous=FULL, which gives the same guarantee: acknowledged data survives a loss of power.
Run it on the kind of disk that you will use: a file system in memory costs nothing.
"""

import argparse
import dataclasses
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from core_infra.jobrunner import (
    ActionResult,
    Entry,
    Job,
    Journal,
    PipelineSignal,
    Poller,
    PollerConfig,
    RecordedSource,
)

SIGNALS = 10_000
SINGLE = 200
GROUPED = 20_000
THREADS = 8
BATCH = 100
VERIFIED = 100_000

SIGNAL = PipelineSignal(
    epic_number=1,
    child_number=4,
    pr_number=5,
    repo_owner="acme",
    repo_name="widgets",
    pr_state="OPEN",
    check_status="SUCCESS",
    last_commit_sha="0" * 40,
)
RESULT = ActionResult.of(SIGNAL, "enable_auto_merge", duration_ms=12)
NUMBERS = count()


class Merge:
    """A handler that has nothing to do."""

    def __init__(self, name: str, state: str) -> None:
        self.name = name
        self.state = state

    def match(self, signal: PipelineSignal) -> bool:
        """As the real ones: a few fields."""
        return (
            signal.pr_state == self.state
            and not signal.is_draft
            and signal.check_status == "SUCCESS"
            and bool(signal.last_commit_sha)
        )

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Do nothing."""
        del signal
        return job.done()


def per_second(number: int, work: Callable[[], object]) -> float:
    """How many of a number of things are done in a second."""
    start = time.perf_counter()
    work()
    return number / (time.perf_counter() - start)


def in_threads(threads: int, work: Callable[[], object]) -> None:
    """Do the same on several threads."""
    all_ = [threading.Thread(target=work) for _ in range(threads)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()


def repeat(times: int, work: Callable[[], object]) -> None:
    """Do the same several times."""
    for _ in range(times):
        work()


def bare(path: Path) -> Callable[[], object]:
    """The least that one can do: one write, one fdatasync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    line = Entry.of_result(SIGNAL, RESULT).encode() + b"x" * 78

    def append() -> None:
        os.write(fd, line)
        os.fdatasync(fd)

    return append


def sqlite(path: Path) -> Callable[[Sequence[str]], None]:
    """A table of lines, each call a transaction."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute("create table lines (id integer primary key, line text)")
    turn = threading.Lock()

    def insert(lines: Sequence[str]) -> None:
        with turn:
            db.execute("begin")
            db.executemany("insert into lines (line) values (?)", [(line,) for line in lines])
            db.execute("commit")

    return insert


def entries(number: int) -> list[Entry]:
    """Entries, made again each time: that is part of what an append costs."""
    return [Entry.of_result(SIGNAL, RESULT) for _ in range(number)]


def lines(number: int) -> list[str]:
    """The same as text, for the peer."""
    return [entry.encode().decode() + "}" for entry in entries(number)]


def cycle(directory: Path) -> float:
    """Seconds for a cycle of signals that are all acted on, intents and results on the disk."""
    signals = [
        dataclasses.replace(SIGNAL, child_number=number, pr_number=SIGNALS + number)
        for number in range(1, SIGNALS + 1)
    ]
    handlers = [*(Merge(f"other{n}", "MERGED") for n in range(6)), Merge("merge", "OPEN")]
    with (
        Journal(directory) as journal,
        Poller(PollerConfig([RecordedSource(signals)], handlers, journal)) as poller,
    ):
        start = time.perf_counter()
        report = poller.run_once()
        seconds = time.perf_counter() - start
        assert len(report.results) == SIGNALS
        assert sum(check.entries for check in journal.verify()) == 2 * SIGNALS
        return seconds


def one_round(directory: Path) -> dict[str, float]:
    """Everything once."""
    here = directory / str(next(NUMBERS))
    here.mkdir()
    journal, insert = Journal(here / "journal"), sqlite(here / "peer.sqlite3")
    journal.append(SIGNAL, RESULT)  # the file is there
    append = partial(journal.append, SIGNAL, RESULT)
    each = GROUPED // THREADS // BATCH
    found = {
        "single bare fdatasync /s": per_second(SINGLE, partial(repeat, SINGLE, bare(here / "x"))),
        "single journal /s": per_second(SINGLE, partial(repeat, SINGLE, append)),
        "single sqlite /s": per_second(SINGLE, partial(repeat, SINGLE, lambda: insert(lines(1)))),
    }
    for threads in (8, 64):
        work = partial(repeat, GROUPED // 4 // threads, append)
        found[f"{threads} threads, journal /s"] = per_second(
            GROUPED // 4, partial(in_threads, threads, work)
        )
    work = partial(repeat, GROUPED // 40 // 8, lambda: insert(lines(1)))
    found["8 threads, sqlite /s"] = per_second(GROUPED // 40, partial(in_threads, 8, work))
    work = partial(repeat, each, lambda: journal.write(entries(BATCH)))
    found["8 threads x 100, journal /s"] = per_second(GROUPED, partial(in_threads, THREADS, work))
    work = partial(repeat, each, lambda: insert(lines(BATCH)))
    found["8 threads x 100, sqlite /s"] = per_second(GROUPED, partial(in_threads, THREADS, work))
    journal.close()
    found["cycle of 10,000 signals, s"] = cycle(here / "cycle")
    found["single: bare over journal"] = (
        found["single bare fdatasync /s"] / found["single journal /s"]
    )
    return found


def verification(directory: Path) -> float:
    """Seconds for checking a file of 100,000 entries."""
    with Journal(directory / "verified") as journal:
        for _ in range(VERIFIED // 5000):
            journal.write(entries(5000))
        start = time.perf_counter()
        (check,) = journal.verify()
        seconds = time.perf_counter() - start
        assert (check.entries, check.breaks) == (VERIFIED, [])
        return seconds


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        rounds = [one_round(Path(name)) for _ in range(options.rounds)]
        figures = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        figures["verify 100,000 entries, s"] = verification(Path(name))
    for key, value in figures.items():
        print(f"{key:32}{value:12,.2f}" if value < 100 else f"{key:32}{value:12,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
