"""What is known of a machine when its test has failed, and the sections of the report about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from core_infra.vm._guest.results import WaitResult, describe_exit, harmless, shown_output
from core_infra.vm._guest.timeline import Step
from pytest_core_infra._vm.change_lines import change_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._fault import Fault
    from core_infra.vm._guest.changes import Changes
    from core_infra.vm._networks import Network

CONSOLE_LINES = 40
ALL_OF_IT = "all of it: "
_FIRST_STEPS = 5
_LAST_STEPS = 25
_LONGEST = 500
_MOST_REPORTS = 10
_TROUBLE = re.compile(
    r"Kernel panic - |Out of memory: |Memory cgroup out of memory: |\bsegfault at "
    r"|^\S* ?\[[ \d.]+\] (BUG|Oops|WARNING|INFO: task|general protection)\b|I/O error"
    r"|EXT4-fs error|XFS .*(error|shutdown)|Remounting filesystem read-only|soft lockup"
    r"|Failed to start "
)
_VERBS = {"command": "$ ", "stream": "$ ", "wait": "wait for "}

Section = tuple[str, str]


@dataclass
class Evidence:
    """What is known of a machine when its test has failed.

    Attributes:
        name: the machine's.
        status: its state, in a word.
        steps: what the test made it do, and the faults of its hardware.
        left_out: how many earlier steps are not known any more.
        console: what its console has printed since the test began.
        log: a note about the file that has all of the console.
        booted: whether it was booted in the test, so that the console begins with its boot.
        changes: what has changed in it since it was handed out; None if it does not run.
        trouble: why it does not run, or stands still; "" if it runs.
        faults: faults that were active when the test failed, in words.
        more: sections about what becomes of it.
    """

    name: str
    status: str
    steps: Sequence[Step] = ()
    left_out: int = 0
    console: str = ""
    log: str = ""
    booted: bool = False
    changes: Changes | None = None
    trouble: str = ""
    faults: Sequence[str] = ()
    more: list[Section] = field(default_factory=list)


class NetworkEvidence(NamedTuple):
    """What is known of a network when its test has failed.

    Attributes:
        name: its name.
        subnet: its addresses.
        machines: the address of each machine that is on it.
        capture: the file of its frames; "" if there is none.
        steps: its faults.
        faults: those that were active when the test failed, in words.
    """

    name: str
    subnet: str
    machines: dict[str, str]
    capture: str
    steps: list[Step]
    faults: list[str]


def network_evidence(network: Network, since: float) -> NetworkEvidence:
    """What is known of a network.

    Args:
        network: the network.
        since: when the test began; faults that ended before are left out.
    """
    faults = [one for one in network.last_faults() if one.ended is None or one.ended >= since]
    return NetworkEvidence(
        network.name,
        network.subnet,
        {name: network.address(name) for name in network.machines},
        str(network.capture or ""),
        [fault_step(fault) for fault in faults],
        [fault.description for fault in faults if was_active(fault)],
    )


def fault_step(fault: Fault) -> Step:
    """A fault as a step: it lasts until it is healed."""
    step = Step("fault", fault.description, fault.began, fault.ended, note="still active")
    if fault.ended is not None:
        until = ", until the test failed" if fault.failed_in else ""
        step.note = f"for {fault.ended - fault.began:.3f} s{until}"
    return step


def was_active(fault: Fault) -> bool:
    """Whether a fault was active when the test failed."""
    return fault.ended is None or fault.failed_in


def sections(
    machines: Sequence[Evidence],
    networks: Sequence[NetworkEvidence] = (),
    *,
    began: float,
    clock: float,
    everything: bool,
) -> list[Section]:
    """The sections of a failed test's report, in the order of their use to the reader.

    Args:
        machines: what is known of each machine.
        networks: what is known of each network.
        began: when the test began, on ``time.monotonic``.
        clock: the same in seconds since 1970.
        everything: leave nothing out.
    """
    found: list[Section] = []
    if text := _steps(machines, networks, began, everything=everything):
        found.append(("core_vm: the test, step by step", text))
    for one in machines:
        title = f"machine {one.name} ({one.status})"
        if one.trouble:
            found.append((title, one.trouble))
        if reported := _kernel_reports(one.console):
            found.append((f"{title}: its kernel reports", "\n".join(reported)))
        found.append((f"{title}: its console since the test began", _console(one, everything)))
        if one.changes is None:
            continue
        lines = change_lines(one.changes, clock=clock, console=one.console, everything=everything)
        found.append((f"{title}: what has changed since it was handed out", "\n".join(lines)))
    everywhere: list[Evidence | NetworkEvidence] = [*machines, *networks]
    if faults := [f"{one.name}: {fault}" for one in everywhere for fault in one.faults]:
        found.append(("core_vm: faults that were active", "\n".join(faults)))
    # Those of clusters that the test has stopped have nothing more.
    found += [_network(one) for one in networks if one.machines or one.faults or one.capture]
    return [*found, *(section for one in machines for section in one.more)]


def properties(machines: Sequence[Evidence], *, began: float) -> list[tuple[str, object]]:
    """The properties of a failed test in JUnit XML: what each machine did last, and its log."""
    found: list[tuple[str, object]] = []
    for one in machines:
        found.append((f"core_vm_console_log[{one.name}]", one.log.removeprefix(ALL_OF_IT)))
        if one.steps:
            text = step_text(one.steps[-1], began).partition("\n")[0]
            found.append((f"core_vm_last_step[{one.name}]", text))
    return found


def _network(one: NetworkEvidence) -> Section:
    names = ", ".join(f"{name} {address}" for name, address in one.machines.items())
    lines = [f"{one.subnet}: {names or 'no machines'}"]
    lines += [f"fault: {fault}" for fault in one.faults] or ["no faults"]
    if one.capture:
        lines.append(f"frames: {one.capture}")
    return f"network {one.name}", "\n".join(lines)


def _kernel_reports(console: str) -> list[str]:
    """The lines of a console that say what went wrong, among many that show details."""
    found = [line for line in console.splitlines() if _TROUBLE.search(line)]
    return list(dict.fromkeys(found))[:_MOST_REPORTS]


def _console(one: Evidence, everything: bool) -> str:  # noqa: FBT001 - a value that is passed on
    lines = one.console.strip("\n").splitlines()
    if not everything:
        lines = lines[-CONSOLE_LINES:]
    return "\n".join([*(lines or ["nothing"]), f"({one.log})"])


def _steps(
    machines: Sequence[Evidence],
    networks: Sequence[NetworkEvidence],
    began: float,
    *,
    everything: bool,
) -> str:
    owners: list[Evidence | NetworkEvidence] = [*machines, *networks]
    names = len(owners) > 1
    steps = sorted(
        ((step, one.name if names else "") for one in owners for step in one.steps),
        key=lambda pair: pair[0].began,
    )
    lost = sum(one.left_out for one in machines)
    if not steps:
        return ""
    texts = [step_text(step, began, name) for step, name in steps]
    more = 0
    if not everything and len(texts) > _FIRST_STEPS + _LAST_STEPS:
        more = len(texts) - _FIRST_STEPS - _LAST_STEPS
        texts[_FIRST_STEPS:-_LAST_STEPS] = [f"… {more} steps are left out (-vv shows all) …"]
    if lost:
        texts.insert(0, f"… {lost} earlier steps are not kept …")
    return "\n".join(texts)


def step_text(step: Step, began: float, machine: str = "") -> str:
    """A step in lines: when and what, then its outcome."""
    what = step.what if len(step.what) <= _LONGEST else f"{step.what[:_LONGEST]} …"
    what = what.replace("\n", "\n    ")
    verb = _VERBS.get(step.kind, f"{step.kind} ")
    if step.number:
        verb = f"[{step.number}] {verb}"
    head = f"+{max(0.0, step.began - began):.3f} s  {f'{machine}  ' if machine else ''}"
    return f"{head}{verb}{what}".rstrip() + _outcome(step)


def _outcome(step: Step) -> str:
    result = step.result
    took = "still under way" if step.ended is None else f"{step.ended - step.began:.3f} s"
    if isinstance(result, WaitResult):
        outcome = "reached" if result.reached else "not reached"
        attempts = f"{result.attempts} attempt{'' if result.attempts == 1 else 's'}"
        seen = f": {result.seen}" if result.seen else ""
        return f"\n  {outcome}, {attempts} in {result.waited:.3f} s{seen}"
    if result is not None:
        ending = describe_exit(result.exit_code)
        late = f" ({step.error.partition(': ')[0]})" if step.error else ""
        waits = "".join(f"\n  waited | {harmless(line)}" for line in waits_of(step))
        return f"\n  {ending}, {result.duration:.3f} s{late}{shown_output(result)}{waits}"
    if step.kind == "fault":
        return f"  ({step.note})"
    if step.kind == "stream":
        ending = "" if step.exit_code is None else f"{describe_exit(step.exit_code)}, "
        tail = step.tail.decode("utf-8", "replace").splitlines()[-10:]
        lines = "".join(f"\n  output | {harmless(line)}" for line in tail)
        return f"\n  {ending}{step.error or 'followed by the test'}, {took}{lines}"
    return f"\n  failed: {step.error}, {took}" if step.error else f"  ({took})"


def waits_of(step: Step) -> list[str]:
    """What each process of a command waited for when its time was up."""
    return [line.strip() for line in step.waited_for().splitlines()]
