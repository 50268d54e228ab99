"""Images of LinuxKit files: by core-infra's own assembler, or by the program ``linuxkit``."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra._host import SHORT_NAMES
from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._cache import cache_root, found, locked, writable
from core_infra.vm._free_space import written
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.kernel_set import load_kernel_set
from core_infra.vm._images.linuxkit.lock import find_lock
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.vm._images.image import Image
    from core_infra.vm._images.linuxkit.lock import Lock
    from core_infra.vm._images.linuxkit.plan import Plan

_NAME = "image"
_FACTS = "facts.json"
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
        """Build the image that was planned, and record how much memory its machines need."""
        from core_infra.vm._images.linuxkit.output import write_kernel_and_initrd  # noqa: PLC0415

        size = write_kernel_and_initrd(plan, directory, _NAME)
        # The kernel gives half of the memory to its first file system. The packed one is there,
        # too, until it is unpacked.
        memory = max(_LEAST_MEMORY, 256 + (size * 21 // 10 >> 20))
        (directory / _FACTS).write_text(json.dumps({"memory": memory}))


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
                *("linuxkit", "build", "--format", "kernel+initrd", "--name", _NAME),
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


def template_image(
    name: str,
    variables: Mapping[str, str],
    *,
    templates: TemplateManager | None = None,
    assembler: Assembler | None = None,
    arch: str | None = None,
    progress: Callable[[str], None],
) -> Image:
    """The image of a template, from the cache; built first if it is not there.

    Args:
        name: the template's name.
        variables: the values of its variables.
        templates: where it is; by default the built-in ones and the user's.
        assembler: what builds it; by default core-infra's own.
        arch: the machine's architecture; None is this host's.
        progress: called with a line before it takes long.

    Raises:
        NotFoundError: no template has this name, or an image does not exist.
        MissingVariablesError: required variables are not given; names all of them.
        InvalidFileError: the template has mistakes; lists all of them.
        UnavailableError: a registry cannot be reached.
    """
    templates = templates or TemplateManager()
    text = templates.linuxkit_file(name, variables)
    path = templates.path(name)
    assembler = assembler or make_assembler(
        "", file=Path(path) if path else None, progress=progress
    )
    return build_image(text, assembler, name=name, arch=arch, progress=progress)


def file_image(
    path: Path,
    *,
    assembler: Assembler | None = None,
    arch: str | None = None,
    progress: Callable[[str], None],
) -> Image:
    """The image of a LinuxKit file, from the cache; built first if it is not there.

    Takes the arguments of :func:`template_image`, and raises the same errors.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"cannot read {path}", why=str(error)) from error
    assembler = assembler or make_assembler("", file=path, progress=progress)
    return build_image(text, assembler, name=str(path), arch=arch, progress=progress)


def build_image(
    text: str,
    assembler: Assembler,
    *,
    name: str = _NAME,
    arch: str | None = None,
    progress: Callable[[str], None],
) -> Image:
    """The image of a LinuxKit file, from the cache; built first if it is not there.

    Args:
        text: the file's text, with all variables substituted.
        assembler: what builds it.
        name: the name that messages show.
        arch: the machine's architecture; None is this host's.
        progress: called with a line before it takes long.

    Raises:
        InvalidFileError: the file has mistakes; it has all of them.
        UnavailableError: the program that builds it is not installed.
        CommandFailedError: it failed; shows its output.
        InvalidError: its result is not an image.
    """
    arch, cache = arch or host_arch(), cache_root()
    plan = None
    identity = f"{assembler.version()}\0{arch}\0{text}"
    if isinstance(assembler, OwnAssembler):
        plan = assembler.plan([(name, text.encode())], arch)
        identity = plan.identity()
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = found(cache / "linuxkit", key) or writable(cache / "linuxkit") / key
    if target.is_dir():
        return _load(target, name)
    with (
        written(f"the image of {name}", target.parent),
        locked(target.parent / f"{key}.lock", "builds the same image", progress),
    ):
        if not target.is_dir():
            progress("building the image; the first time, this fetches its parts")
            for left in target.parent.glob(f".building-{key}-*"):  # of a killed process
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".building-{key}-") as work:
                made = Path(work) / "made"
                made.mkdir()
                if plan is not None and isinstance(assembler, OwnAssembler):
                    assembler.write(plan, made)
                else:
                    file = Path(work) / f"{_NAME}.yml"
                    # It may have secrets; only this user can access its directory.
                    file.write_text(text)
                    assembler.assemble(file, made, arch)
                load_kernel_set(made / _NAME)
                made.rename(target)
    return _load(target, name)


def _load(directory: Path, name: str) -> Image:
    image = load_kernel_set(directory / _NAME)
    try:
        memory = json.loads((directory / _FACTS).read_bytes())["memory"]
    except (OSError, ValueError, KeyError, TypeError):  # the program linuxkit does not say
        memory = None
    return replace(image, name=name, memory=memory)
