"""The cost of processes, compared with a bare Popen and asyncio, and a check for remains.

Run: python benchmarks/process.py [--json FILE] [--rounds N] [--only WORD]

Rates: all take turns, many times, so that load affects all equally. Each rate has its ratio to the
first of its kind, as the median of the rounds. Then conditions that must hold under any load:
nothing escapes, nothing is left, nothing grows.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from operator import truediv
from pathlib import Path
from typing import Any

from core_infra.framework import Core
from core_infra.process import ActionProcessOutput, RingBuffer, Service
from core_infra.process._reaper.registry import reaper

TRUE = "/bin/true"
STARTS = 40
"""In one turn."""

LINE = b"x" * 59 + b"\n"
LINES = 1_000_000
"""In one turn: 60 MB."""

WRITER = f"import os\npiece = {LINE!r} * 1000\nfor _ in range({LINES // 1000}): os.write(1, piece)"
RING_WRITES = 20_000
PIECE = bytes(64 << 10)

DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
"""

Case = Callable[[], float]
"""Does something many times over; how many a second."""


def timed(count: float, work: Callable[[], object]) -> float:
    """How many of *count* a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def popen_starts() -> float:
    """Start, capture and wait with nothing around it."""

    def work() -> None:
        for _ in range(STARTS):
            subprocess.Popen(
                [TRUE],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ).communicate()

    return timed(STARTS, work)


def bare_starts() -> float:
    """Start, read and wait as the system does it, with as little Python as possible: the floor."""

    def work() -> None:
        for _ in range(STARTS):
            (out, its_out), (err, its_err) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, its_out, 1),
                (os.POSIX_SPAWN_DUP2, its_err, 2),
            ]
            pid = os.posix_spawn(TRUE, [TRUE], os.environ, file_actions=actions)
            os.close(its_out)
            os.close(its_err)
            for fd in (out, err):
                os.read(fd, 1)
                os.close(fd)
            os.waitpid(pid, 0)

    return timed(STARTS, work)


def our_starts(service: Service) -> Case:
    """Start, capture and wait in a service."""
    return lambda: timed(STARTS, lambda: [service.run(TRUE) for _ in range(STARTS)])


def asyncio_starts() -> float:
    """Start, capture and wait in an event loop."""

    async def work() -> None:
        for _ in range(STARTS):
            process = await asyncio.create_subprocess_exec(
                TRUE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            await process.communicate()

    return timed(STARTS, lambda: asyncio.run(work()))


def popen_lines() -> float:
    """Read each line of a pipe, as bytes, and do nothing with it."""

    def work() -> None:
        with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in process.stdout:
                pass

    return timed(LINES / 1e6, work)


def asyncio_lines() -> float:
    """Read each line in an event loop."""

    async def work() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async for _ in process.stdout:
            pass
        await process.wait()

    return timed(LINES / 1e6, lambda: asyncio.run(work()))


def our_lines(core: Core | None) -> Case:
    """Keep the last of the output and, with a core, hand each line to a handler, as text."""
    service = Service(core)
    seen = 0

    def count(_event: ActionProcessOutput) -> None:
        nonlocal seen
        seen += 1

    def work() -> None:
        nonlocal seen
        seen = 0
        assert service.start(sys.executable, "-c", WRITER).wait() == 0
        service.clear()
        assert core is None or seen == LINES

    if core is not None:
        core.register_action(count, ActionProcessOutput)

    return lambda: timed(LINES / 1e6, work)


def ring_writes() -> float:
    """Write to a ring; GB/s."""
    ring = RingBuffer(1 << 20)
    return timed(RING_WRITES * len(PIECE) / 1e9, lambda: repeat(RING_WRITES, ring.write, PIECE))


def copies() -> float:
    """Copy the same bytes with nothing around it; GB/s."""
    target = memoryview(bytearray(1 << 20))

    def work() -> None:
        for number in range(RING_WRITES):
            at = number * len(PIECE) % len(target)
            target[at : at + len(PIECE)] = PIECE

    return timed(RING_WRITES * len(PIECE) / 1e9, work)


def repeat(count: int, function: Callable[[Any], object], argument: object) -> None:
    """Call a function many times."""
    for _ in range(count):
        function(argument)


def kinds(service: Service) -> dict[str, dict[str, Case]]:
    """What is measured, the measure of each kind first."""
    return {
        "starts/s": {
            "Popen(...).communicate()": popen_starts,
            "Service.run": our_starts(service),
            "asyncio": asyncio_starts,
            "os.posix_spawn, the floor": bare_starts,
        },
        "M lines/s": {
            "for line in Popen(...).stdout": popen_lines,
            "Service, captured": our_lines(None),
            "Service, one subscriber": our_lines(Core()),
            "asyncio": asyncio_lines,
        },
        "GB/s": {"slices, bare": copies, "RingBuffer.write": ring_writes},
    }


def rates(cases: dict[str, Case], rounds: int) -> dict[str, dict[str, float]]:
    """For each case: median and best rate, and the median of its ratios to the first."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    first = next(iter(found.values()))
    return {
        name: {
            "median": statistics.median(values),
            "best": max(values),
            "ratio": statistics.median(map(truediv, values, first)),
        }
        for name, values in found.items()
    }


def large_parent() -> dict[str, float]:
    """Starts from this process, then from this process with another GiB, in turns."""
    service = Service()
    case = our_starts(service)
    ratios = []
    for _ in range(5):
        small = case()
        ballast = bytearray(1 << 30)
        ballast[::4096] = b"x" * (1 << 18)
        ratios.append(case() / small)
        del ballast
    service.shutdown()
    return {"starts from 1 GiB, of those from a small parent": statistics.median(ratios)}


def thousand_alive() -> dict[str, float]:
    """A thousand children at once, each writing: is all output right, and how many threads?"""
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    with Service() as service:
        start = time.perf_counter()
        processes = [service.start("cat") for _ in range(1000)]
        more = len(os.listdir("/proc/self/task")) - threads  # noqa: PTH208
        for number, process in enumerate(processes):
            process.send_input(f"{number}\n" * 100)
            process.close_stdin()
        codes = [process.wait(60) for process in processes]
        right = sum(
            code == 0 and process.output() == f"{number}\n" * 100
            for number, (process, code) in enumerate(zip(processes, codes, strict=True))
        )
        seconds = time.perf_counter() - start
    return {"alive at once, output right": right, "more threads": more, "seconds": seconds}


def escapes() -> dict[str, float]:
    """Daemons that left everything behind: how many are dead after kill, and after how long?"""
    worst, dead = 0.0, 0
    with Service() as service:
        for _ in range(200):
            process = service.start(sys.executable, "-c", DAEMON)
            process.wait()
            [pid] = process.leftovers()
            start = time.perf_counter()
            process.kill()
            worst = max(worst, time.perf_counter() - start)
            dead += not Path(f"/proc/{pid}").exists()
    return {"escaped daemons dead of 200": dead, "worst, seconds": worst}


def what_is_left() -> dict[str, float]:
    """After ten thousand short programs: zombies, descriptors, memory."""
    with Service() as service:
        repeat(500, service.run, TRUE)  # caches fill
        descriptors, resident = state()
        repeat(10_000, service.run, TRUE)
        now_descriptors, now_resident = state()
        zombies = 0
        for pid in (os.getpid(), reaper().pid):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            zombies += sum(is_zombie(int(child)) for child in children)
    return {
        "zombies after 10,000": zombies,
        "more descriptors": now_descriptors - descriptors,
        "more MiB resident": (now_resident - resident) / 1024,
    }


def state() -> tuple[int, int]:
    """Open descriptors, and KiB resident."""
    status = Path("/proc/self/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    return len(os.listdir("/proc/self/fd")), resident  # noqa: PTH208


def is_zombie(pid: int) -> bool:
    """Whether it has ended and nobody has asked how."""
    with suppress(FileNotFoundError):
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    return False


CHECKS = (large_parent, thousand_alive, escapes, what_is_left)


def main() -> None:
    """Measure, print tables, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="kinds and checks with this in their name")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with Service() as service:
        for kind, cases in kinds(service).items():
            if options.only in kind:
                results[kind] = rates(cases, options.rounds)
                print(f"{kind:<34}{'median':>9}{'best':>9}{'ratio':>9}")
                for name, found in results[kind].items():
                    figures = (f"{found[key]:>9.2f}" for key in ("median", "best", "ratio"))
                    print(f"  {name:<32}{''.join(figures)}")
    for check in CHECKS:
        if options.only in check.__name__:
            results[check.__name__] = check()
            for name, value in results[check.__name__].items():
                print(f"{name:<52}{value:>9.3f}")
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123 - a path from the command line
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
