"""The cost of a medium: files of 1 KiB in memory, and in a sandbox on disk, compared with peers.

Run: python benchmarks/medium.py [--json FILE] [--rounds N]

All take turns in each round, so that load affects all equally. The time is this thread's CPU time.
The table has the medians of the rounds, and the best round of ours: on a shared machine, the speed
while the other half of the core is idle.
Peers in memory: pyfakefs, fsspec's memory file system and a bare dict. The peer of the sandbox is
the usual code, realpath and a comparison of prefixes before each operation, which a concurrent
change of a link defeats. Writes on disk are not measured: their fsync would measure only the disk.
Needs: pip install fsspec pyfakefs
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from core_infra.medium import LocalMedium, MemoryMedium, SandboxMedium
from core_infra.medium._beneath import kernel_can

DATA = b"x" * 1024
Work = Callable[[str], object]


def rate(work: Work, paths: list[str]) -> float:
    """Thousands of operations per second."""
    start = time.thread_time()
    for path in paths:
        work(path)
    return len(paths) / (time.thread_time() - start) / 1000


def names(count: int) -> list[str]:
    """Paths of files, fifty in each directory."""
    return [f"top/dir{number // 50}/file{number}" for number in range(count)]


def our_memory() -> dict[str, Work]:
    """MemoryMedium."""
    medium = MemoryMedium()

    def write(path: str) -> None:
        medium.write_bytes(path, DATA)

    return {"new": write, "write": write, "read": medium.read_bytes, "stat": medium.stat}


def bare_dict() -> dict[str, Work]:
    """The least that one can do: a dict, and the names of each directory."""
    files: dict[str, bytes] = {}
    children: dict[str, set[str]] = {}

    def write(path: str) -> None:
        above, _, name = path.rpartition("/")
        children.setdefault(above, set()).add(name)
        files[path] = DATA

    return {"new": write, "write": write, "read": files.__getitem__, "stat": files.get}


def fsspec_memory() -> dict[str, Work]:
    """The memory file system of fsspec."""
    from fsspec.implementations import memory  # noqa: PLC0415 - a peer only

    system = memory.MemoryFileSystem(skip_instance_cache=True)
    system.store.clear()
    made: set[str] = set()

    def write(path: str) -> None:
        above = path.rpartition("/")[0]
        if above not in made:  # it does not make parents by itself
            system.makedirs(above, exist_ok=True)
            made.add(above)
        system.pipe_file(path, DATA)

    return {"new": write, "write": write, "read": system.cat_file, "stat": system.info}


def pyfakefs() -> dict[str, Work]:
    """A FakeFilesystem used directly, without patching."""
    from pyfakefs.fake_filesystem import FakeFilesystem  # noqa: PLC0415 - a peer only
    from pyfakefs.fake_open import FakeFileOpen  # noqa: PLC0415
    from pyfakefs.fake_os import FakeOsModule  # noqa: PLC0415

    system = FakeFilesystem(path_separator="/")
    fake_os, fake_open = FakeOsModule(system), FakeFileOpen(system)

    def write(path: str) -> None:
        above = path.rpartition("/")[0]
        if not fake_os.path.exists(f"/{above}"):
            fake_os.makedirs(f"/{above}")
        with fake_open(f"/{path}", "wb") as file:
            file.write(DATA)

    def read(path: str) -> object:
        with fake_open(f"/{path}", "rb") as file:
            return file.read()

    return {"new": write, "write": write, "read": read, "stat": lambda p: fake_os.stat(f"/{p}")}


def our_sandbox(directory: str, *, by_kernel: bool) -> dict[str, Work]:
    """SandboxMedium."""
    medium = SandboxMedium(directory, by_kernel=by_kernel)
    return {"read": medium.read_bytes, "stat": medium.stat, "list": medium.list}


def realpath_check(directory: str) -> dict[str, Work]:
    """LocalMedium behind a check of the real path: the usual sandbox."""
    medium = LocalMedium()
    root = os.path.realpath(directory)

    def checked(operation: Work, path: str) -> object:
        real = os.path.realpath(f"{root}/{path}")
        if os.path.commonpath([root, real]) != root:
            raise PermissionError(path)
        return operation(real)

    return {
        "read": partial(checked, medium.read_bytes),
        "stat": partial(checked, medium.stat),
        "list": partial(checked, medium.list),
    }


Rates = dict[str, dict[str, list[float]]]


def turns(makers: dict[str, tuple[Callable[[], dict[str, Work]], int]], rounds: int) -> Rates:
    """The rates of all rounds; each peer has its own number of files."""
    rates: Rates = {name: {} for name in makers}
    for _ in range(rounds):
        for name, (make, count) in makers.items():
            works = make()
            for operation, work in works.items():
                paths = names(count)
                if operation == "list":
                    paths = [path.rpartition("/")[0] for path in paths]
                rates[name].setdefault(operation, []).append(rate(work, paths))
    return rates


def summary(rates: Rates, of: Callable[[list[float]], float]) -> dict[str, dict[str, float]]:
    """One figure for the rounds of each peer and operation."""
    return {name: {what: of(found) for what, found in all_.items()} for name, all_ in rates.items()}


def table(title: str, rates: Rates) -> Iterable[str]:
    """The lines of a table: thousands per second, and how many times the first peer is faster."""
    medians = summary(rates, statistics.median)
    first, ours = next(iter(medians.items()))
    yield f"{title:<28}" + "".join(f"{operation:>20}" for operation in ours)
    for name, found in medians.items():
        cells = (f"{found[what]:12.1f} ({ours[what] / found[what]:5.2f})" for what in ours)
        yield f"{name:<28}" + "".join(f"{cell:>20}" for cell in cells)
        if name == first:
            best = "".join(f"{max(found):12.1f}        " for found in rates[name].values())
            yield f"{'  its best round':<28}{best}"


def main() -> None:
    """Measure, print the tables, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    memory = turns(
        {
            "MemoryMedium": (our_memory, 2000),
            "fsspec memory": (fsspec_memory, 500),
            "pyfakefs": (pyfakefs, 100),
            "bare dict": (bare_dict, 2000),
        },
        options.rounds,
    )
    with tempfile.TemporaryDirectory() as directory:
        for path in names(500):
            target = Path(directory, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(DATA)
        ways = {"SandboxMedium (kernel)": True} if kernel_can() else {}
        ways |= {"SandboxMedium (walking)": False}
        disk = turns(
            {
                **{
                    name: (partial(our_sandbox, directory, by_kernel=by_kernel), 500)
                    for name, by_kernel in ways.items()
                },
                "realpath check": (partial(realpath_check, directory), 500),
            },
            options.rounds,
        )
    print("thousands per second (in brackets: how many times slower than the first line)")
    for title, rates in (("in memory, 1 KiB", memory), ("on disk, 1 KiB", disk)):
        print("", *table(title, rates), sep="\n")
    if options.json:
        results = {
            place: {"median": summary(rates, statistics.median), "best": summary(rates, max)}
            for place, rates in (("memory", memory), ("disk", disk))
        }
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
