"""What the plugin says: the run's header, and sections (title, text) of a failing test's report."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from core_infra.vm._guest.results import WaitResult, describe_exit, shown_command, shown_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._guest.results import ExecResult
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine

CONSOLE_LINES = 40
_LONGEST_COMMAND = 500


def host(launcher: Launcher) -> list[str]:
    """What will run the machines of this run, and what was in its way."""
    accelerator = launcher.accelerator
    program = f"{launcher.hypervisor.name} {launcher.hypervisor.version()}"
    spec = launcher.spec("any")
    size = f"{spec.memory} MiB, {count(spec.cpus, 'cpu')}"
    processor = launcher.processor(spec)
    return [
        f"core_vm: {program}, {accelerator.name} ({accelerator.reason})",
        f"core_vm: image {spec.image.name}, {spec.image.arch}, {size}",
        *([f"core_vm: {processor}"] if processor else []),
        *swept(launcher),
    ]


def swept(launcher: Launcher) -> list[str]:
    """What earlier runs had left and this one has removed, in a line; none if there was nothing."""
    if not (found := launcher.run.swept):
        return []
    ended = sum(one.ended for one in found)
    machines = f", {count(ended, 'machine')} that still ran" if ended else ""
    directories = count(len(found), "director", "y", "ies")
    return [f"core_vm: removed what earlier runs left: {directories}{machines}"]


def count(number: int, noun: str, one: str = "", more: str = "s") -> str:
    """A number of things in words: "1 machine", "2 machines"."""
    return f"{number} {noun}{one if number == 1 else more}"


def properties(uses: Sequence[tuple[str, float]], accelerator: str) -> list[tuple[str, object]]:
    """What JUnit XML says of the machines of a test, given the image and the seconds of each."""
    return [
        ("core_vm_machines", len(uses)),
        ("core_vm_machine_seconds", f"{sum(seconds for _, seconds in uses):.3f}"),
        ("core_vm_image", ", ".join(sorted({image for image, _ in uses}))),
        ("core_vm_accelerator", accelerator),
    ]


def console(machine: Machine, note: str) -> tuple[str, str]:
    """The end of the console, and a note below it."""
    title = f"machine {machine.name} ({machine.status.value}): the console's last lines"
    return title, f"{machine.console_tail(CONSOLE_LINES)}\n({note})\n"


def commands(machine: Machine, results: Sequence[ExecResult]) -> tuple[str, str]:
    """The last commands and what came of them."""
    text = "\n".join(_command(result) for result in results)
    return f"machine {machine.name}: the last commands", text


def kept(machine: Machine) -> tuple[str, str]:
    """How to enter and how to end a machine that is left running."""
    return f"machine {machine.name} is left running", "\n".join(ways(machine.pid))


def kept_later(machine: Machine, owner: str) -> tuple[str, str]:
    """What becomes of a machine that other tests use, too."""
    title = f"machine {machine.name} will be left running"
    return title, f"at the end of {owner}; the summary of the run says how to enter it"


def ways(pid: int) -> list[str]:
    """The commands that enter and end a machine that was kept, given its process id."""
    # By this Python, wherever the reader's PATH leads: core_infra is installed there.
    vm = shlex.join([sys.executable, "-m", "core_infra", "vm"])
    return [
        f"enter it: {vm} console {pid}",
        f"run in it: {vm} exec {pid} COMMAND",
        f"end it:   kill {pid}",
    ]


def _command(result: ExecResult) -> str:
    line = shown_command(result.command)
    if len(line) > _LONGEST_COMMAND:
        line = f"{line[:_LONGEST_COMMAND]} …"
    if isinstance(result, WaitResult):
        outcome = "it came" if result.reached else "in vain"
        tried = f"{count(result.attempts, 'attempt')} in {result.waited:.3f} s"
        seen = f": {result.seen}" if result.seen else ""
        return f"waited for {result.goal}\n  {outcome}, {tried}{seen}"
    ending = describe_exit(result.exit_code)
    return f"$ {line}\n  {ending}, {result.duration:.3f} s{shown_output(result)}"
