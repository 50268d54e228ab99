"""The settings of a run: the checked values of its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._hardware import MAXIMUM_CPUS, MINIMUM_MEMORY, check_network, check_processor
from core_infra.vm._hypervisors import accelerator
from core_infra.vm._images.addresses import rebased
from core_infra.vm._images.image import checked_arch
from pytest_core_infra._vm.options import FALSE, find, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

KEEP = ("never", "failed", "always")
_LONGEST_WARM = 24 * 60
_MOST_MOMENTS = 100
TRACE = ("retain-on-failure", "on", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run.

    Attributes:
        image: what machines boot; None is the default image.
        memory: MiB of each machine; None is a default that fits the image.
        cpus: virtual processors of each machine; None is one, unless the image says otherwise.
        cpu: their processor, as QEMU's ``-cpu`` takes it; None is one that suits.
        arch: their architecture; None is the image's, or this host's.
        network: what they reach: "hermetic" or "nat"; None is "hermetic".
        accelerator: "auto", "kvm", "tcg" or "hvf".
        cold: boot each machine instead of cloning one that has booted.
        keep: whose machines are left running: "never", "failed" (a failed test's), "always".
        enter: open a shell in the machine of the first test that fails.
        trace: which tests leave a capsule: "retain-on-failure", "on" (all), "off".
        trace_disks: capsules have the images of disks, too.
        trace_steps: how many commands capsules can go back to before; 0: none.
        report: the file for the page of the run; None: no page.
        live: show a board on the terminal instead of dots.
        warm: minutes for which templates stay warm after the run; 0: they do not.
        revert: machines that tests share go back after each test to what they were before it.
    """

    image: Path | str | None
    memory: int | None
    cpus: int | None
    cpu: str | None
    arch: str | None
    network: str | None
    accelerator: str
    cold: bool
    keep: str
    enter: bool
    trace: str
    trace_disks: bool
    trace_steps: int
    report: Path | None
    live: bool
    warm: int
    revert: bool


def read_settings(config: pytest.Config) -> Settings:
    """Read the options; pytest.UsageError names the value that is wrong and where it stands."""
    return Settings(
        image=_image(config),
        memory=_number(config, "core_vm_memory", least=MINIMUM_MEMORY),
        cpus=_number(config, "core_vm_cpus", least=1, most=MAXIMUM_CPUS),
        cpu=_checked(config, "core_vm_cpu", check_processor),
        arch=_checked(config, "core_vm_arch", checked_arch),
        network=_checked(config, "core_vm_network", check_network),
        accelerator=_choice(config, "core_vm_accel", accelerator.NAMES),
        cold=switched_on(config, "core_vm_cold"),
        keep=_choice(config, "core_vm_keep", KEEP),
        enter=switched_on(config, "core_vm_enter"),
        trace=_choice(config, "core_vm_trace", TRACE),
        trace_disks=switched_on(config, "core_vm_trace_disks"),
        trace_steps=_number(config, "core_vm_trace_steps", least=0, most=_MOST_MOMENTS) or 0,
        report=_report(config),
        live=switched_on(config, "core_vm_live"),
        warm=_warm(config),
        revert=switched_on(config, "core_vm_revert"),
    )


def _warm(config: pytest.Config) -> int:
    found = find(config, "core_vm_warm")
    if found is None or (found.is_from_ini and os.environ.get("CI", "") not in ("", *FALSE)):
        return 0
    return _number(config, "core_vm_warm", least=0, most=_LONGEST_WARM) or 0


def _report(config: pytest.Config) -> Path | None:
    found = find(config, "core_vm_report")
    if found is None:
        return None
    path = found.base / str(found.value)
    if path.is_dir():
        raise pytest.UsageError(f"{found.source}: this must be a file, and it is a directory")
    return path


def _image(config: pytest.Config) -> Path | str | None:
    found = find(config, "core_vm_image")
    if found is None:
        return None
    return rebased(found.value, found.base)


def _checked(config: pytest.Config, name: str, check: Callable[[str], object]) -> str | None:
    found = find(config, name)
    if found is None:
        return None
    try:
        check(found.value)
    except InvalidError as error:
        raise pytest.UsageError(f"{found.source}: {error.what}. {error.todo}") from None
    return str(found.value)


def _number(config: pytest.Config, name: str, *, least: int, most: int | None = None) -> int | None:
    found = find(config, name)
    if found is None:
        return None
    try:
        number = int(found.value)
    except ValueError:
        raise pytest.UsageError(f"{found.source}: this must be a whole number") from None
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise pytest.UsageError(f"{found.source}: this must be {limits}")
    return number


def _choice(config: pytest.Config, name: str, choices: Sequence[str]) -> str:
    found = find(config, name)
    if found is None:
        return choices[0]
    if found.value not in choices:
        raise pytest.UsageError(f"{found.source}: choose one of {', '.join(choices)}")
    return str(found.value)
