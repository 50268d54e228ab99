"""Boot a machine, and say what is known when it does not come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError, TimeoutExpiredError, UnavailableError
from core_infra.vm._hypervisors.processor import advice, processor
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._io_pause import MachinePausedError
from core_infra.vm._timeouts import limit
from core_infra.vm._vmm_process import COMMAND, LOG, TAIL_LINES

if TYPE_CHECKING:
    from core_infra.vm._guest.protocol import HelloAck
    from core_infra.vm._hypervisors.disposable import MachineSpec
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._vmm_process import VmmProcess


_NEEDED = "the agent comes into an image by LinuxKit's init or by cloud-init: has it one of them?"

_PATIENCE = 4

BOOT_TIMEOUT = 8.0
"""Seconds, before scaling, that a machine may take to answer."""

FOREIGN_BOOT_TIMEOUT = 30.0
"""The same with an image that is not of our making, without a word on its console."""


class BootError(UnavailableError):
    """A machine did not come up.

    Attributes:
        console: the console's last lines.
        command: the hypervisor's command line.
    """


def boot_limit(image: Bootable, given: float | None = None) -> float:
    """Seconds that a machine with this image may take to answer: those given, or what is usual.

    Raises:
        InvalidError: what was given is no time.
    """
    return limit(given, BOOT_TIMEOUT if image.has_agent else FOREIGN_BOOT_TIMEOUT)


def await_agent(instance: VmmProcess, spec: MachineSpec, timeout: float) -> HelloAck:
    """Wait for the guest's agent to begin a session.

    Raises:
        BootError: it does not come within *timeout* seconds; carries all that is known.
        MachinePausedError: this host has no room for what it writes.
    """
    started = time.monotonic()
    printed = ""
    given_up = instance.console.failed_boot
    try:
        while True:
            try:
                return instance.agent.hello(timeout, given_up)
            except TimeoutExpiredError:
                # A distribution on a busy host may take very long, and says what it is at.
                before, printed = printed, instance.console.text()
                patient = time.monotonic() - started < timeout * _PATIENCE
                if spec.image.has_agent or before == printed or not patient or given_up():
                    raise
    except TimeoutExpiredError as error:
        seconds = time.monotonic() - started
        why = instance.console.failed_boot()
        if why is None:
            why = f"the guest agent did not answer within {seconds:.0f} s"
            if not spec.image.has_agent:
                why += f" ({_NEEDED})"
        raise _boot_error(instance, spec, why) from error
    except MachinePausedError:
        raise  # this host is to blame, not the image
    except CoreInfraError as error:
        log = (instance.directory / LOG).read_text(errors="replace").strip()
        why = instance.console.failed_boot() or log or "it restarted, or QEMU ended without a word"
        raise _boot_error(instance, spec, why) from error


def _boot_error(instance: VmmProcess, spec: MachineSpec, why: str) -> BootError:
    tail = instance.console.tail(TAIL_LINES)
    shown = f"the console's last lines:\n{tail}" if tail else "the console is empty"
    command = (instance.directory / COMMAND).read_text().strip()
    hint = f"{_advice(instance, spec)}\n" if instance.console.panic() else ""
    return BootError(
        f"machine {spec.name} did not come up ({spec.image.name})",
        why=f"{why}\n{shown}",
        todo=f"{hint.lstrip()}The command was: {command}",
        console=tail,
        command=command,
    )


def _advice(instance: VmmProcess, spec: MachineSpec) -> str:
    cpu = processor(spec.image.arch, instance.accelerator, spec.cpu)
    return advice(spec.image, cpu, instance.accelerator, QemuHypervisor().version())
