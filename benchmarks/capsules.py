"""What capsules cost: suites that pass and that fail, with and without them.

Run: python benchmarks/capsules.py [--json FILE] [--rounds N] [--tests N]

A suite with ``--core-vm-trace=retain-on-failure`` and the same without it run in turns, so that
load affects both equally.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FAILING = 5
"""Tests of the suite that fails: fewer than the capsules of a run that have machines."""

SUITES = {
    "passing": """
import pytest
@pytest.mark.parametrize("n", range({count}))
def test_machine(core_vm, n):
    assert core_vm.exec("echo hi").stdout == "hi\\n"
""",
    "failing": f"""
import pytest
@pytest.mark.parametrize("n", range({FAILING}))
def test_machine(core_vm, n):
    core_vm.write_text("/srv/note", "x" * 100_000)
    assert core_vm.exec("echo hi").stdout == ""
""",
}
"""The suites, by what they do."""


def suite(directory: Path, trace: str, status: int) -> float:
    """Seconds of a run of the suite in *directory*."""
    options = ["--core-vm", f"--core-vm-trace={trace}", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options]
    start = time.perf_counter()
    run = subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=False)
    taken = time.perf_counter() - start
    assert run.returncode == status, f"pytest ended with {run.returncode}"
    return taken


def compared(directory: Path, status: int, rounds: int) -> tuple[float, float, float]:
    """The median seconds without and with capsules, and the median of their ratio."""
    without, with_them = [], []
    for _ in range(rounds):
        without.append(suite(directory, "off", status))
        with_them.append(suite(directory, "retain-on-failure", status))
    ratios = [more / less for more, less in zip(with_them, without, strict=True)]
    return tuple(map(statistics.median, (without, with_them, ratios)))  # type: ignore[return-value] # three


def main() -> None:
    """Measure, print a table, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tests", type=int, default=100)
    options = parser.parse_args()
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, text in SUITES.items():
            Path(directory, name).mkdir()
            Path(directory, name, "pytest.ini").write_text("[pytest]\n")
            Path(directory, name, "test_suite.py").write_text(
                text.format(count=options.tests) if name == "passing" else text
            )
        passing, failing = Path(directory, "passing"), Path(directory, "failing")
        suite(failing, "retain-on-failure", 1)  # makes the image
        without, with_them, ratio = compared(passing, 0, options.rounds)
        results[f"{options.tests} tests that pass, without capsules (s)"] = without
        results["the same with retain-on-failure (s)"] = with_them
        results["  with / without"] = ratio
        without, with_them, _ = compared(failing, 1, options.rounds)
        results["a capsule of a failed test (s)"] = (with_them - without) / FAILING
        sizes = [one.stat().st_size for one in failing.glob("core-vm-results/*.capsule")]
        results["  its size (MB)"] = statistics.median(sizes) / 1e6
    for name, value in results.items():
        print(f"{name:<46}{value:>10.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
