"""A machine's hardware: its disks, and the limits of memory, processors and ports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard

from core_infra._unpatched import os
from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

HERMETIC, NAT = "hermetic", "nat"
NETWORKS = (HERMETIC, NAT)
"""What a machine can reach: nothing, or what its host can reach."""

REAL: Final = "real"
"""The clocks of a machine run with the host's."""

VIRTUAL: Final = "virtual"
"""They run by the guest's instructions, and skip the time in which it is idle."""

DEFAULT_MEMORY = 256
"""Default MiB of a machine with one of our own images."""

FOREIGN_MEMORY = 1024
"""Default MiB of a machine with any other image."""

MINIMUM_MEMORY = 64
"""MiB; with less, a kernel dies before it can report that. Most images need more."""

MAXIMUM_CPUS = 255
"""QEMU's limit for its PC machines."""

_HIGHEST_PORT = 65535
_CPU_MODEL = re.compile(r"[!-~]+")
_LACK_OF_MEMORY = re.compile("panic.*(?:deadlocked on|[Oo]ut of) memory")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a machine.

    Attributes:
        path: its file.
        format: its format, by QEMU's name: qcow2, raw, iso, vmdk, ….
        read_only: the machine does not write to it.
        boot: the machine boots from it.
        disc: it is an optical disc.
        locked: QEMU locks the file against other writers. Not that of a machine that is forked:
            each fork writes a copy.
        volatile: it has a write cache: what the guest has not flushed is lost when the machine's
            power is cut.
        content: identifies the content of a file that core-infra has made; empty: the times and
            sizes of its files identify it.
    """

    path: Path
    format: str
    read_only: bool = False
    boot: bool = False
    disc: bool = False
    locked: bool = True
    volatile: bool = False
    content: str = ""


def memory_advice(said: str, memory: int) -> str:
    """What to do about a kernel that panicked because of too little memory; otherwise empty.

    Args:
        said: its last sentence.
        memory: the machine's MiB.
    """
    if not _LACK_OF_MEMORY.search(said):
        return ""
    return f"{memory} MiB are too few for what it does: give it more memory."


def check_network(network: object) -> None:
    """Raise InvalidError unless a machine can have this network."""
    if network not in NETWORKS:
        raise InvalidError(
            f"cannot use {network!r} as network",
            why=f"it must be {' or '.join(NETWORKS)}",
            todo="hermetic machines reach nothing; with nat they reach what this host reaches.",
        )


def check_memory_and_cpus(
    memory: object, cpus: object, *, least: int = MINIMUM_MEMORY, image: str = "a Linux kernel"
) -> None:
    """Raise InvalidError unless a machine can have this memory and this many cpus.

    Args:
        memory: MiB.
        cpus: virtual processors.
        least: MiB that its image needs.
        image: the name of the image.
    """
    if not _is_whole(memory) or not _is_whole(cpus):
        raise InvalidError(
            f"cannot boot a machine with memory={memory!r} and cpus={cpus!r}",
            why="both are whole numbers: of MiB, and of processors",
        )
    if memory < least:
        raise InvalidError(
            f"cannot boot a machine with {memory} MiB of memory",
            why=f"{image} needs at least {least} MiB",
            todo="Leave it out for a default that fits the image.",
        )
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    if memory > here:
        raise InvalidError(
            f"cannot boot a machine with {memory} MiB of memory", why=f"this host has {here} MiB"
        )
    if not 1 <= cpus <= MAXIMUM_CPUS:
        raise InvalidError(
            f"cannot boot a machine with {cpus} cpus", why=f"1 to {MAXIMUM_CPUS} are possible"
        )


def check_time(time: object, cpus: int) -> None:
    """Raise InvalidError unless a machine's clocks can run like this."""
    if time not in (REAL, VIRTUAL):
        raise InvalidError(f"cannot use time={time!r}", why=f"it is {REAL!r} or {VIRTUAL!r}")
    if time == VIRTUAL and cpus != 1:
        raise InvalidError(
            f"cannot give a machine virtual time and {cpus} cpus",
            why="QEMU counts the instructions of one processor",
            todo="Leave cpus out.",
        )


def check_port(port: object) -> None:
    """Raise InvalidError unless *port* is the number of a TCP or UDP port."""
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= _HIGHEST_PORT:
        raise InvalidError(
            f"there is no port {port!r}", why=f"ports are numbers, 1 to {_HIGHEST_PORT}"
        )


def check_positive(name: str, number: object) -> None:
    """Raise InvalidError unless *number*, the argument *name*, is a whole number from 1."""
    if not _is_whole(number) or number < 1:
        raise InvalidError(f"cannot use {name}={number!r}", why="it is a whole number, from 1")


def check_switch(name: str, value: object) -> None:
    """Raise InvalidError unless *value*, the argument *name*, is True or False."""
    if not isinstance(value, bool):
        raise InvalidError(f"cannot use {name}={value!r}", why="it is True or False")


def check_processor(wanted: object) -> None:
    """Raise InvalidError unless *wanted* can be a value of QEMU's ``-cpu``."""
    if wanted is not None and not (isinstance(wanted, str) and _CPU_MODEL.fullmatch(wanted)):
        raise InvalidError(
            f"cannot use {wanted!r} as a processor",
            todo="Give a model and its features as QEMU's -cpu takes them, such as max,cx16=off.",
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
