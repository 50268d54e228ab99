"""Writes the capsule of a test: all that is known of it, and its machines as they stand."""

from __future__ import annotations

import contextlib
import inspect
import platform
import re
import shlex
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from core_infra._unpatched import Path
from core_infra.vm._capsule.file import SUFFIX, CapsuleWriter
from core_infra.vm._capsule.machines import add_machines, machine_facts
from core_infra.vm._guest.results import WaitResult
from core_infra.vm._machine import record_of
from core_infra.vm._machine_state import Status
from pytest_core_infra._vm.change_lines import change_lines
from pytest_core_infra._vm.evidence import waits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._capsule.moments import Moment
    from core_infra.vm._guest.timeline import Step
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine
    from pytest_core_infra._vm.evidence import Evidence, NetworkEvidence, Section

DIRECTORY = "core-vm-results"
MOST_STATES = 10
"""The capsules of a process that have machines: when all tests fail, the disk must not fill up."""

TITLE = "core_vm: capsule"
_LONGEST_NAME = 120


def write(
    item: pytest.Item,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    machines: Sequence[tuple[Machine, Evidence]],
    launcher: Launcher,
    *,
    networks: Sequence[NetworkEvidence],
    began: float,
    clock: float,
    moments: Sequence[Moment] = (),
    with_states: bool = True,
    whole: bool = False,
) -> tuple[Path, bool]:
    """Write the capsule of a test; its path, and whether one of its machines can be woken.

    Args:
        item: the test.
        call: the phase of it that has just ended.
        report: the report of that.
        machines: the test's machines, and what is known of each.
        launcher: what runs them.
        networks: what is known of the test's networks.
        began: when the test began, on ``time.monotonic``.
        clock: the same in seconds since 1970.
        moments: the machines as they stood before commands.
        with_states: put the machines themselves into it.
        whole: with the images below their disks, whatever their size.

    Raises:
        OSError: the file cannot be written.
    """
    name = re.sub(r"[^\w.=-]+", "-", item.nodeid).strip("-")[-_LONGEST_NAME:]
    path = Path(str(item.config.rootpath)) / DIRECTORY / f"{name}{SUFFIX}"
    _make_directory(path.parent)
    with CapsuleWriter(path) as writer:
        limit = "" if with_states else f"{MOST_STATES} capsules of this run have their machines"
        why_not = {machine: _why_not(machine, known) or limit for machine, known in machines}
        savable = [machine for machine, _ in machines if not why_not[machine]]
        saved = add_machines(writer, launcher, savable, whole=whole, moments=moments)
        records = [
            _machine(machine, known, began, clock)
            | {"facts": _facts(machine, launcher)}
            | saved.machines.get(machine, {"why_not": why_not[machine]})
            for machine, known in machines
        ]
        crash = getattr(report.longrepr, "reprcrash", None)
        writer.set_manifest(
            {
                "test": item.nodeid,
                "phase": report.when,
                "outcome": report.outcome,
                "error": crash.message if crash is not None else "",
                "traceback": report.longreprtext,
                "source": _source(item, call),
                "began": clock,
                "duration": round(report.duration, 3),
                "versions": _versions(launcher),
                "machines": records,
                "networks": [_network(one, began) for one in networks],
                "groups": saved.groups,
                "moments": saved.moments,
            }
        )
    return path, any("state" in record for record in records)


def section(path: Path, *, has_machine: bool, moments: Sequence[Moment]) -> Section:
    """The section of a report that says where the capsule is and how to open it."""
    size = path.stat().st_size / 1e6
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    name = shlex.quote(str(path))
    lines = [f"{path} ({size:.2f} MB)"]
    if has_machine:
        lines.append(f"enter the machine as it stood: core-infra vm open {name}")
    if numbers := [one.step.number for one in moments if one.saved is not None]:
        first, last = numbers[0], numbers[-1]
        others = {0: "", 1: f"  (or {first})"}.get(last - first, f"  (or {first} to {last - 1})")
        lines.append(f"before command [{last}]: core-infra vm open {name} --at {last}{others}")
    lines.append(f"see the test as a page: core-infra vm show {name}")
    return TITLE, "\n".join(lines)


def _make_directory(directory: Path) -> None:
    """Make the directory for capsules; git leaves it out, as it does pytest's cache."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(parents=True)
        (directory / ".gitignore").write_text("*\n")


def _why_not(machine: Machine, known: Evidence) -> str:
    """Why a machine cannot be saved; "" if it can."""
    if machine.status is not Status.RUNNING:
        return f"it did not run: {known.trouble or machine.status.value}"
    if known.changes is not None and known.changes.silent:
        return f"its guest does not answer: {known.changes.silent}"
    return ""


def _facts(machine: Machine, launcher: Launcher) -> dict[str, Any]:
    accelerator = record_of(machine).accelerator
    return machine_facts(machine.spec, accelerator, launcher.hypervisor.version())


def _machine(machine: Machine, known: Evidence, began: float, clock: float) -> dict[str, Any]:
    changes = known.changes
    return {
        "name": known.name,
        "status": known.status,
        "trouble": known.trouble,
        "steps": [_step(one, began) for one in known.steps],
        "console": known.console,
        "log": machine.logs(),
        "faults": list(known.faults),
        "changes": []
        if changes is None
        else change_lines(changes, clock=clock, console=known.console, everything=True),
    }


def _network(known: NetworkEvidence, began: float) -> dict[str, Any]:
    return {
        "name": known.name,
        "subnet": known.subnet,
        "machines": known.machines,
        "capture": known.capture,
        "steps": [_step(one, began) for one in known.steps],
        "faults": known.faults,
    }


def _step(step: Step, began: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": step.kind,
        "what": step.what,
        "at": round(step.began - began, 4),
        "took": None if step.ended is None else round(step.ended - step.began, 4),
        "error": step.error,
        "note": step.note,
        "number": step.number,
        "exit_code": step.exit_code,
        "waited": "\n".join(waits_of(step)),
        "output": step.tail.decode("utf-8", "replace"),
    }
    if step.result is not None:
        found["exit_code"] = step.result.exit_code
        found["stdout"], found["stderr"] = step.result.stdout, step.result.stderr
    if isinstance(step.result, WaitResult):
        found["error"] = "" if step.result.reached else f"not reached: {step.result.seen}"
        found |= {"attempts": step.result.attempts, "exit_code": None, "stdout": "", "stderr": ""}
    return found


def _source(item: pytest.Item, call: pytest.CallInfo[None]) -> dict[str, Any]:
    failing = None
    if call.excinfo is not None:
        for entry in call.excinfo.traceback:
            if str(entry.path) == str(item.path):
                failing = entry.lineno + 1
    try:
        lines, first = inspect.getsourcelines(getattr(item, "function", None))  # type: ignore[arg-type] # checked by it
    except (TypeError, OSError):
        lines, first = [], 0
    path = item.location[0]
    return {"path": path, "first": first, "failing": failing, "text": "".join(lines)}


def _versions(launcher: Launcher) -> dict[str, str]:
    return {
        "core-infra": metadata.version("core-infra"),
        "pytest": pytest.__version__,
        "Python": platform.python_version(),
        "QEMU": launcher.hypervisor.version(),
        "host": f"{platform.system()} {platform.release()}",
    }
