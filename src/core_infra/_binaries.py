"""The guest agent's program, compiled for each architecture of a guest."""

from __future__ import annotations

from importlib.resources import files

from core_infra.errors import UnavailableError

ARCHITECTURES = ("x86_64", "aarch64")
"""What the agent is compiled for, as ``uname -m`` calls it in the guest."""


def agent_binary(arch: str) -> bytes:
    """The agent for *arch*: a static ELF program, to be put into an image as it is.

    Raises:
        UnavailableError: the agent is not made for *arch*, or was not compiled.
    """
    if arch not in ARCHITECTURES:
        raise UnavailableError(
            f"there is no guest agent for {arch!r}",
            why=f"it is compiled for {' and '.join(ARCHITECTURES)}",
            todo="Use an image of one of these architectures.",
            arch=arch,
        )
    path = files(__package__) / "bin" / f"agent-{arch}"
    if not path.is_file():
        raise UnavailableError(
            f"the guest agent for {arch} is missing: {path}",
            why="it is compiled when core-infra is built or installed, and this tree was not",
            todo="Install the tree (pip install -e .), or compile it: python hatch_build.py",
            arch=arch,
        )
    return path.read_bytes()
