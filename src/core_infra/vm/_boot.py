"""Wait for a machine to boot, and report all that is known if it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError, TimeoutExpiredError, UnavailableError
from core_infra.vm._hardware import memory_advice
from core_infra.vm._hypervisors.processor import advice, processor
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._images.image import OWN_INIT, Image
from core_infra.vm._io_pause import LOG, MachinePausedError
from core_infra.vm._timeouts import limit
from core_infra.vm._vmm_process import COMMAND, TAIL_LINES

if TYPE_CHECKING:
    from core_infra.vm._guest.protocol import HelloAck
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._vmm_process import VmmProcess


_NEEDED = (
    "the agent comes into an image by LinuxKit's init or cloud-init, or by core-infra image build "
    "--agent: does it have one of them?"
)

_PATIENCE = 4

BOOT_TIMEOUT = 8.0
"""Seconds, before scaling, that a machine may take to answer."""

FOREIGN_BOOT_TIMEOUT = 30.0
"""The same if the first process is not ours, and the console prints nothing."""


class BootError(UnavailableError):
    """A machine did not come up.

    Attributes:
        console: the console's last lines.
        command: the hypervisor's command line.
    """


def boot_limit(image: Bootable, given: float | None = None) -> float:
    """Seconds that a machine with this image may take to answer: *given*, or the default.

    Raises:
        InvalidError: *given* is not a time.
    """
    ours = image.has_agent and not (isinstance(image, Image) and OWN_INIT in image.cmdline)
    return limit(given, BOOT_TIMEOUT if ours else FOREIGN_BOOT_TIMEOUT)


def await_agent(process: VmmProcess, spec: MachineSpec, timeout: float) -> HelloAck:
    """Wait for the guest's agent to begin a session.

    Raises:
        BootError: it does not begin within *timeout* seconds; carries all that is known.
        MachinePausedError: this host has no room for what it writes.
    """
    started = time.monotonic()
    printed = ""
    given_up = process.console.failed_boot
    try:
        while True:
            try:
                return process.agent.hello(timeout, given_up)
            except TimeoutExpiredError:
                # A distribution on a busy host may take very long, and prints what it does.
                before, printed = printed, process.console.text()
                patient = time.monotonic() - started < timeout * _PATIENCE
                if spec.image.has_agent or before == printed or not patient or given_up():
                    raise
    except TimeoutExpiredError as error:
        seconds = time.monotonic() - started
        why = process.console.failed_boot()
        if why is None:
            why = f"the guest agent did not answer within {seconds:.0f} s"
            if not spec.image.has_agent:
                why += f" ({_NEEDED})"
        raise _boot_error(process, spec, why) from error
    except MachinePausedError:
        raise  # this host is to blame, not the image
    except CoreInfraError as error:
        log = (process.directory / LOG).read_text(errors="replace").strip()
        why = process.console.failed_boot() or log or "it restarted, or QEMU ended silently"
        raise _boot_error(process, spec, why) from error


def _boot_error(process: VmmProcess, spec: MachineSpec, why: str) -> BootError:
    tail = process.console.tail(TAIL_LINES)
    shown = f"the console's last lines:\n{tail}" if tail else "the console is empty"
    command = (process.directory / COMMAND).read_text().strip()
    panic = process.console.panic()
    hint = f"{memory_advice(panic, spec.memory) or _advice(process, spec)}\n" if panic else ""
    return BootError(
        f"machine {spec.name} did not come up ({spec.image.name})",
        why=f"{why}\n{shown}",
        todo=f"{hint.lstrip()}The command was: {command}",
        console=tail,
        command=command,
    )


def _advice(process: VmmProcess, spec: MachineSpec) -> str:
    cpu = processor(spec.image.arch, process.accelerator, spec.cpu)
    return advice(spec.image, cpu, process.accelerator, QemuHypervisor().version())
