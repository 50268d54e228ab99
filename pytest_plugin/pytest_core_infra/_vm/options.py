"""The options, and the order of their sources: command line, environment, ini file.

Every pytest run on a host that has core-infra imports this, so it imports very little.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")


class Option(NamedTuple):
    """An option in its three forms: ``--core-vm-x``, ``CORE_INFRA_VM_X`` and ``core_vm_x``."""

    name: str
    type: Literal["bool", "int", "string"]
    metavar: str
    help: str
    words: tuple[str, ...] = ()
    """The values of a switch besides on and off."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "CORE_INFRA_" + self.name.removeprefix("core_").upper()


OPTIONS = (
    Option(
        "core_vm",
        "bool",
        "",
        "run the tests that need a real machine; without it they are skipped",
        ("require",),
    ),
    Option(
        "core_vm_image",
        "string",
        "PATH",
        "the image that machines boot (default: a small one, built once from this host's packages)",
    ),
    Option("core_vm_memory", "int", "MIB", "memory of each machine in MiB (default: 256)"),
    Option("core_vm_cpus", "int", "N", "virtual processors of each machine (default: 1)"),
    Option(
        "core_vm_cpu",
        "string",
        "MODEL",
        "the processor of each machine, in the form of QEMU's -cpu, such as max,cx16=off (default: "
        "chosen by QEMU's version and the guest's kernel)",
    ),
    Option(
        "core_vm_arch",
        "string",
        "x86_64|aarch64",
        "the architecture of the machines, emulated if it is not this host's (default: the "
        "image's, or this host's)",
    ),
    Option(
        "core_vm_network",
        "string",
        "hermetic|nat",
        "what machines reach: hermetic (default): nothing; nat: what this host reaches",
    ),
    Option("core_vm_cold", "bool", "", "boot each machine instead of cloning one that has booted"),
    Option(
        "core_vm_accel",
        "string",
        "auto|kvm|tcg|hvf",
        "how machines run: tcg is plain emulation, auto (default) is the fastest that works here",
    ),
    Option(
        "core_vm_keep",
        "string",
        "never|failed|always",
        "which tests' machines keep running: none (default), those of failed tests, or all",
    ),
    Option(
        "core_vm_enter",
        "bool",
        "",
        "at the first failure of a test, open a shell in its machine on this terminal",
    ),
    Option(
        "core_vm_trace",
        "string",
        "retain-on-failure|on|off",
        "which tests leave a capsule in core-vm-results/, with all that is known of them and their "
        "machines as they stood: those that fail (default), all, or none",
    ),
    Option(
        "core_vm_trace_disks",
        "bool",
        "",
        "put the images of disks into capsules, too, so that they open on a host without these",
    ),
    Option(
        "core_vm_trace_steps",
        "int",
        "N",
        "keep the machines of a test as they stood before each of its last N commands, for "
        "`core-infra vm open --at` (default: 0)",
    ),
    Option(
        "core_vm_report",
        "string",
        "FILE",
        "write the run as an HTML page: tests, machines, durations, and when each worker ran",
    ),
    Option(
        "core_vm_live",
        "bool",
        "",
        "show running tests and machines on a board instead of dots, if the output is a terminal",
    ),
    Option(
        "core_vm_warm",
        "int",
        "MINUTES",
        "keep what machines are cloned from warm for the next run, in a helper process that ends "
        "after this time (default: 0, off; in CI the ini file's value does not count)",
    ),
    Option(
        "core_vm_revert",
        "bool",
        "",
        "after each test, revert a shared machine to its state before the test",
    ),
)


class Found(NamedTuple):
    """The value of an option.

    Attributes:
        value: a text, unless the ini file's format knows better.
        source: where it was found, for messages.
        base: the directory that a relative path is meant from.
        is_from_ini: it is the ini file's.
    """

    value: Any
    source: str
    base: Path
    is_from_ini: bool = False


def add_options(parser: pytest.Parser) -> None:
    """Add the options to pytest."""
    group = parser.getgroup("core-infra", "real machines (core-infra)")
    for option in OPTIONS:
        text = f"{option.help}. Also {option.variable} in the environment."
        if option.type == "bool":
            group.addoption(option.flag, action="store_true", default=None, help=text)
        else:
            group.addoption(option.flag, metavar=option.metavar, default=None, help=text)
        for word in option.words:
            # An option of its own: a switch that may have a value would take the path behind it.
            group.addoption(
                f"{option.flag}={word}",
                action="store_const",
                const=word,
                dest=option.name,
                default=None,
                help="the same, for CI: such tests are never skipped, and a host that cannot run "
                f"machines fails the run. Also {option.name} = {word} in the ini file.",
            )
        parser.addini(option.name, option.help, type=_ini_type(option), default=None)


def _ini_type(option: Option) -> Any:
    """The type of the option in an ini file."""
    if not option.words:
        return option.type
    if pytest.version_tuple >= (9, 2):
        return bool | Literal[option.words]
    # Between these, a TOML file has values with types, and a switch must be a truth value.
    return "bool" if pytest.version_tuple >= (9, 0) else "string"


def find(config: pytest.Config, name: str) -> Found | None:
    """The value of the option *name*; None if it is not set."""
    option = next(option for option in OPTIONS if option.name == name)
    here = config.invocation_params.dir
    if (value := config.getoption(name)) is not None:
        return Found(value, f"{option.flag}={value}", here)
    if text := os.environ.get(option.variable, ""):
        return Found(text, f"{option.variable}={text} in the environment", here)
    try:
        value = config.getini(name)
    except (pytest.UsageError, TypeError, ValueError) as error:
        raise pytest.UsageError(f"{name} in {config.inipath}: {error}") from None
    if value is None:
        return None
    base = config.inipath.parent if config.inipath else here
    return Found(value, f"{name} = {value} in {config.inipath}", base, is_from_ini=True)


def switched_on(config: pytest.Config, name: str = "core_vm") -> bool:
    """Whether an option that is a switch is on."""
    found = find(config, name)
    if found is None:
        return False
    if isinstance(found.value, bool):
        return found.value
    words = next(option.words for option in OPTIONS if option.name == name)
    if found.value.lower() in (*TRUE, *FALSE, *words):
        return found.value.lower() not in FALSE
    choices = " or ".join((TRUE[1], FALSE[1], *words))
    raise pytest.UsageError(f"{found.source}: say {choices}")
