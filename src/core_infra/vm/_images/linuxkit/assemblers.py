"""What builds the images of LinuxKit files: core-infra itself, or the program ``linuxkit``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra._host import SHORT_NAMES
from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm._images.linuxkit.lock import find_lock
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._images.linuxkit.lock import Lock
    from core_infra.vm._images.linuxkit.plan import Plan

NAME = "image"
"""What the names of an image's files begin with."""
FACTS = "facts.json"
"""The file with what is known of an image that was built: the memory that its machines need."""
_PATIENCE = 3600.0
_LEAST_MEMORY = 1024


class Assembler(Protocol):
    """Builds a kernel and an initrd from a LinuxKit file."""

    def version(self) -> str:
        """Its name and version: another version may build another image."""

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Write ``image-kernel``, ``image-initrd.img`` and ``image-cmdline`` to *directory*."""


class OwnAssembler:
    """core-infra's own, which needs no program and no container runtime on this host.

    Args:
        lock: the digests that the images must have; None takes what their tags name.
        beside: where relative paths are looked for, after the working directory.
        progress: called with a line before it takes long.
    """

    def __init__(
        self,
        *,
        lock: Lock | None = None,
        beside: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._lock = lock
        self._beside = beside
        self._progress = progress

    def version(self) -> str:
        """Its name: what it was built of is found by :meth:`plan`."""
        return "core-infra"

    def plan(self, files: Sequence[tuple[str, bytes]], arch: str) -> Plan:
        """Read a LinuxKit file, and fetch its images; raises errors as :meth:`assemble` does."""
        # Imported here: it brings an HTTP client, and few runs need it.
        from core_infra.vm._images.linuxkit.plan import make_plan  # noqa: PLC0415

        bases = [Path.cwd(), *([self._beside] if self._beside else [])]
        return make_plan(files, arch, bases=bases, lock=self._lock, progress=self._progress)

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Build the image.

        Raises:
            InvalidFileError: the file has mistakes; it has all of them.
            NotFoundError: an image is not there.
            UnavailableError: a registry cannot be reached, or there is no room.
        """
        self.write(self.plan([(str(file), file.read_bytes())], arch), directory)

    def write(self, plan: Plan, directory: Path) -> None:
        """Build the image that was planned, and record what its machines need and have."""
        from core_infra.vm._images.linuxkit.output import write_kernel_and_initrd  # noqa: PLC0415

        size = write_kernel_and_initrd(plan, directory, NAME)
        # The kernel gives half of the memory to its first file system. The packed one is there,
        # too, until it is unpacked.
        memory = max(_LEAST_MEMORY, 256 + (size * 21 // 10 >> 20))
        facts = {"memory": memory, "has_virtiofs": "image" not in plan.file.kernel}
        (directory / FACTS).write_text(json.dumps(facts))


class LinuxKitProgram:
    """The program ``linuxkit``, which fetches the parts that the file names from registries."""

    def version(self) -> str:
        """The output of ``linuxkit version``; UnavailableError if it is not installed."""
        if shutil.which("linuxkit") is None:
            raise UnavailableError(
                "cannot build an image by linuxkit",
                why="linuxkit is not on PATH",
                todo="Leave the assembler out, which uses core-infra's own, or install linuxkit "
                "from https://github.com/linuxkit/linuxkit/releases.",
            )
        return run(["linuxkit", "version"], timeout=60)

    def assemble(self, file: Path, directory: Path, arch: str) -> None:
        """Build the image; CommandFailedError shows the program's output."""
        run(
            [
                *("linuxkit", "build", "--format", "kernel+initrd", "--name", NAME),
                *("--arch", SHORT_NAMES.get(arch, arch), "--dir", str(directory), str(file)),
            ],
            timeout=_PATIENCE,
        )


ASSEMBLERS = ("core-infra", "linuxkit")
"""The names of the assemblers."""


def make_assembler(
    name: str, *, file: Path | None = None, progress: Callable[[str], None]
) -> Assembler:
    """Return the assembler of a name.

    Args:
        name: one of ASSEMBLERS; "" is the first.
        file: the LinuxKit file, whose lock is honoured; None if it is not in the file system.
        progress: called with a line before it takes long.

    Raises:
        InvalidError: there is none of this name, or the file's lock has mistakes.
    """
    if name not in {"", *ASSEMBLERS}:
        raise InvalidError(
            f"there is no assembler {name!r}", todo=f"Choose one of {', '.join(ASSEMBLERS)}."
        )
    if name == ASSEMBLERS[1]:
        return LinuxKitProgram()
    if file is None:
        return OwnAssembler(progress=progress)
    return OwnAssembler(lock=find_lock([file]), beside=file.parent, progress=progress)
