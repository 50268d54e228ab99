"""How an image wants commands to be run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunConfig:
    """How the author of an OCI image wants its programs to be run.

    Attributes:
        env: their environment.
        workdir: the directory that they start in.
        user: who runs them, as ``USER[:GROUP]``, by name or number; "" is root.
        entrypoint: the program that the image is for, with its first arguments.
        cmd: further arguments; the program itself if there is no entrypoint.
    """

    env: dict[str, str] = field(default_factory=dict, hash=False)
    workdir: str = "/"
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
