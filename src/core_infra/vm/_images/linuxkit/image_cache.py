"""Images of LinuxKit files and templates, from the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cache import cache_root, found, locked, writable
from core_infra.vm._free_space import written
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.kernel_set import load_kernel_set
from core_infra.vm._images.linuxkit.assemblers import FACTS, NAME, OwnAssembler, make_assembler
from core_infra.vm._images.linuxkit.templates import TemplateManager

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.vm._images.image import Image
    from core_infra.vm._images.linuxkit.assemblers import Assembler


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
    name: str = NAME,
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
                    file = Path(work) / f"{NAME}.yml"
                    # It may have secrets; only this user can access its directory.
                    file.write_text(text)
                    assembler.assemble(file, made, arch)
                load_kernel_set(made / NAME)
                made.rename(target)
    return _load(target, name)


def _load(directory: Path, name: str) -> Image:
    image = load_kernel_set(directory / NAME)
    try:
        facts = json.loads((directory / FACTS).read_bytes())
        return replace(image, name=name, **facts)
    except (OSError, ValueError, TypeError):  # the program linuxkit does not say
        return replace(image, name=name)
