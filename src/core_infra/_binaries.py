"""The programs in C that are compiled when core-infra is built or installed."""

from __future__ import annotations

import platform

from core_infra._unpatched import Path
from core_infra.errors import UnavailableError

BINARIES = Path(__file__).parent / "bin"
"""The directory of the programs, each named NAME-ARCH."""

ARCHITECTURES = ("x86_64", "aarch64")
"""The architectures that the agent is compiled for, as ``uname -m`` prints them."""


def agent_binary(arch: str) -> bytes:
    """The agent for *arch*: a static ELF program, to be put into an image as it is.

    Raises:
        UnavailableError: the agent is not made for *arch*, or was not compiled.
    """
    return _for_guests("agent", "guest agent", arch)


def init_binary(arch: str) -> bytes:
    """The first process of LinuxKit machines without one of their own; as :func:`agent_binary`."""
    return _for_guests("init", "first process", arch)


def host_program(file: str, what: str) -> Path:
    """A program or library for this host.

    Args:
        file: its name before the architecture, and its suffix: ``reaper``, ``forkserver.so``.
        what: what it is, for the error.

    Raises:
        UnavailableError: it was not compiled for this host.
    """
    name, dot, suffix = file.partition(".")
    path = BINARIES / f"{name}-{platform.machine()}{dot}{suffix}"
    if not path.is_file():
        raise UnavailableError(
            f"there is no {what} for {platform.machine()}: {path}",
            why=f"it is compiled for {' and '.join(ARCHITECTURES)} when core-infra is built",
            todo=_how_to_compile(),
        )
    return path


def _how_to_compile() -> str:
    if (BINARIES.parents[2] / "hatch_build.py").is_file():
        return "Install the tree (pip install -e .), or compile it: python hatch_build.py"
    return (
        "The wheel for all platforms does not have it. Install the one for this platform, or "
        "compile it: CORE_INFRA_CC=cc pip install --force-reinstall --no-deps "
        "--no-binary core-infra core-infra"
    )


def _for_guests(name: str, what: str, arch: str) -> bytes:
    if arch not in ARCHITECTURES:
        raise UnavailableError(
            f"there is no {what} for {arch!r}",
            why=f"it is compiled for {' and '.join(ARCHITECTURES)}",
            todo="Use an image of one of these architectures.",
            arch=arch,
        )
    path = BINARIES / f"{name}-{arch}"
    if not path.is_file():
        raise UnavailableError(
            f"the {what} for {arch} is missing: {path}",
            why="it is compiled when core-infra is built",
            todo=_how_to_compile(),
            arch=arch,
        )
    return path.read_bytes()
