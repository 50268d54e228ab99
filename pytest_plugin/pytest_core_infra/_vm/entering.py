"""Shells in machines while pytest captures output, and ``--core-vm-enter``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.vm._machine_state import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._machine import Machine
    from pytest_core_infra._vm.evidence import Evidence


@contextlib.contextmanager
def real_terminal(config: pytest.Config) -> Iterator[None]:
    """Within the block, pytest captures neither input nor output."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    # A debugger has suspended it already, and still reads from the terminal after this.
    if capture is None or (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    capture.suspend(in_=True)
    try:
        yield
    finally:
        capture.resume()


def check_enter(config: pytest.Config) -> None:
    """Raise UsageError if this run has no terminal that a failure could open a shell on."""
    if config.getoption("numprocesses", None):
        raise pytest.UsageError(
            "--core-vm-enter opens a shell on this terminal, which workers of pytest-xdist do not "
            "have: run without -n"
        )


def enter(
    report: pytest.TestReport, machines: Sequence[Machine], found: Sequence[Evidence], began: float
) -> None:
    """Open a shell in the machine of a failed test that was used last.

    Args:
        report: the test's.
        machines: the test's.
        found: what is known of each of them.
        began: when the test began, on ``time.monotonic``.
    """
    running = [
        (one, known)
        for one, known in zip(machines, found, strict=True)
        if one.status is Status.RUNNING
    ]
    if not running:
        return
    running.sort(key=lambda pair: pair[1].steps[-1].began if pair[1].steps else began)
    machine = running[-1][0]
    for line in _banner(report, machine, [one.name for one in machines if one is not machine]):
        print(line, flush=True)  # noqa: T201 - to the user's terminal
    machine.shell()


def _banner(report: pytest.TestReport, machine: Machine, others: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"===== {report.nodeid} failed in {report.when} ====="
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        yield f"{crash.path}:{crash.lineno}: {crash.message}"
    yield f"The machine {machine.name} is as it was when the test failed."
    if others:
        yield f"The other machines also run: {', '.join(others)}"
    yield "Leave the shell with exit or Ctrl-]: then the run continues, and the machine ends."
