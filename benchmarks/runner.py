"""The cost of a task, and how close the run time of a graph is to the shortest possible.

Run: python benchmarks/runner.py [--json FILE] [--rounds N] [--graphs N]
(needs make, and ninja and doit from PyPI: pip install ninja doit)

1. 1,000 tasks that do nothing, two in parallel: all take turns, so that load affects all equally.
   Ours also records the output, CPU time and peak memory of each.
2. Random graphs of 120 tasks that sleep, run by two workers. The lower bound is the longest path,
   or all work evenly distributed, in seconds of sleep; so the cost of starting programs counts
   against each runner. Ours runs each graph twice and counts the second run, when it knows how long
   each task takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.medium import MemoryMedium
from core_infra.process import Durations, Runner, RunSpec
from core_infra.process._runner.graph import Graph
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT = 1_000
SIZE = 120
WORKERS = 2

Times = dict[str, float]
"""Seconds by name: how long each task of a graph sleeps."""


def make(specs: Sequence[RunSpec], directory: Path) -> list[str]:
    """Write a Makefile."""
    rules = [f".PHONY: all {' '.join(spec.name for spec in specs)}"]
    rules.append(f"all: {' '.join(spec.name for spec in specs)}")
    rules += [f"{spec.name}: {' '.join(spec.after)}\n\t@{' '.join(spec.argv)}" for spec in specs]
    (directory / "Makefile").write_text("\n".join(rules) + "\n")
    return ["make", "-s", f"-j{WORKERS}"]


def ninja(specs: Sequence[RunSpec], directory: Path) -> list[str]:
    """Write a build.ninja."""
    rules = ["rule run\n  command = $argv"]
    for spec in specs:
        after = " ".join(spec.after)
        argv = " ".join(spec.argv)
        rules.append(f"build {spec.name}: run | {after}\n  argv = {argv}")
    (directory / "build.ninja").write_text("\n".join(rules) + "\n")
    return ["ninja", "--quiet", f"-j{WORKERS}"]


def doit(specs: Sequence[RunSpec], directory: Path) -> list[str]:
    """Write a dodo.py."""
    tasks = [
        {
            "name": spec.name,
            "actions": [spec.argv],
            "task_dep": [f"t:{name}" for name in spec.after],
        }
        for spec in specs
    ]
    text = f"DOIT_CONFIG = {{'verbosity': 0}}\ndef task_t():\n    yield from {tasks!r}\n"
    (directory / "dodo.py").write_text(text)
    return [sys.executable, "-m", "doit", "-n", str(WORKERS)]


PEERS: dict[str, Callable[[Sequence[RunSpec], Path], list[str]]] = {
    f"make -j{WORKERS}": make,
    f"ninja -j{WORKERS}": ninja,
    f"doit -n{WORKERS}": doit,
}


def by_peer(
    peer: Callable[[Sequence[RunSpec], Path], list[str]], specs: Sequence[RunSpec]
) -> float:
    """Run specs by a peer; seconds."""
    with tempfile.TemporaryDirectory() as directory:
        argv = peer(specs, Path(directory))
        start = time.perf_counter()
        subprocess.run(argv, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def by_us(service: Service, specs: Sequence[RunSpec]) -> float:
    """Run specs by ourselves; seconds."""
    start = time.perf_counter()
    assert Runner(service, workers=WORKERS).run_all(specs).success
    return time.perf_counter() - start


def available() -> list[str]:
    """The peers that are installed."""
    found = {"make": shutil.which("make"), "ninja": shutil.which("ninja")}
    missing = [name for name, path in found.items() if path is None]
    if importlib.util.find_spec("doit") is None:
        missing.append("doit")
    for name in missing:
        print(f"{name} is not installed: left out")
    return [name for name in PEERS if name.split()[0] not in missing]


def measure_cost(service: Service, rounds: int, peers: list[str]) -> dict[str, dict[str, float]]:
    """For each runner: median and best of ms a task."""
    specs = [RunSpec(f"t{number}", "/bin/true") for number in range(COUNT)]
    by_us(service, specs[:50])
    times: dict[str, list[float]] = {"core-infra": [], **{name: [] for name in peers}}
    for _ in range(rounds):
        times["core-infra"].append(by_us(service, specs))
        for name in peers:
            times[name].append(by_peer(PEERS[name], specs))
    return {
        name: {
            "median": statistics.median(found) / COUNT * 1e3,
            "best": min(found) / COUNT * 1e3,
        }
        for name, found in times.items()
    }


def random_graph(seed: int) -> tuple[list[RunSpec], Times]:
    """Tasks that sleep 10 to 600 ms, most of them short, each after up to two of the 30 before."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    times = {f"t{number}": min(0.6, rng.lognormvariate(-2.9, 1) + 0.01) for number in range(SIZE)}
    names = list(times)
    specs = []
    for number, name in enumerate(names):
        before = names[max(0, number - 30) : number]
        after = rng.sample(before, min(len(before), rng.randint(0, 2)))
        specs.append(RunSpec(name, "sleep", [f"{times[name]:.4f}"], after=after))
    rng.shuffle(specs)
    return specs, times


def bound(specs: Sequence[RunSpec], times: Times) -> float:
    """Seconds that no order can undercut."""
    longest = max(Graph(specs, {}).path_lengths(times).values())
    return max(longest, sum(times.values()) / WORKERS)


def measure_order(service: Service, graphs: int, peers: list[str]) -> dict[str, dict[str, float]]:
    """For each runner: mean and worst of the time over the bound."""
    over: dict[str, list[float]] = {"core-infra": [], **{name: [] for name in peers}}
    for seed in range(graphs):
        specs, times = random_graph(seed)
        least = bound(specs, times)
        runner = Runner(service, workers=WORKERS, durations=Durations(MemoryMedium()))
        runner.run_all(specs)
        start = time.perf_counter()
        runner.run_all(specs)
        over["core-infra"].append((time.perf_counter() - start) / least)
        for name in peers:
            over[name].append(by_peer(PEERS[name], specs) / least)
    return {
        name: {"mean": statistics.mean(found), "worst": max(found)} for name, found in over.items()
    }


def main() -> None:
    """Measure, print two tables, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", type=int, default=3)
    options = parser.parse_args()
    peers = available()
    with Service() as service:
        cost = measure_cost(service, options.rounds, peers)
        print(f"{f'{COUNT} x /bin/true: ms each':<32}{'median':>8}{'best':>8}")
        for name, found in cost.items():
            print(f"{name:<32}{found['median']:>8.2f}{found['best']:>8.2f}")
        order = measure_order(service, options.graphs, peers)
        print(f"\n{'random graphs: time / bound':<32}{'mean':>8}{'worst':>8}")
        for name, found in order.items():
            print(f"{name:<32}{found['mean']:>8.3f}{found['worst']:>8.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps({"cost": cost, "order": order}, indent=2))


if __name__ == "__main__":
    main()
