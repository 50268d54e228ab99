"""Templates: LinuxKit files with variables, built-in ones and the user's own."""

from __future__ import annotations

import posixpath
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CoreInfraError, NotFoundError
from core_infra.medium._local import LocalMedium
from core_infra.vm._images.linuxkit.document import check_linuxkit
from core_infra.vm._images.linuxkit.variables import MissingVariablesError, apply_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.medium._medium import Medium

DIRECTORY = ".core/linuxkit"
"""The directory of a user's own templates, in the working directory and in the home directory."""

_SUFFIX = ".yml"


class Template(NamedTuple):
    """A template.

    Attributes:
        name: its name.
        description: its first comment line.
        path: its file; empty for a built-in template.
    """

    name: str
    description: str
    path: str


class TemplateManager:
    """Finds templates by their names.

    Of several with the same name, the built-in one is used, then the one of the working directory.

    Args:
        medium: the file system with the user's templates; by default the real one.
        home: the user's home directory in it.
    """

    def __init__(self, medium: Medium | None = None, *, home: str | None = None) -> None:
        self._medium: Medium = medium or LocalMedium()
        self._home = str(Path.home()) if home is None else home

    def list_templates(self) -> list[Template]:
        """All templates, by name."""
        return sorted(
            Template(name, self._description(path), "" if isinstance(path, Traversable) else path)
            for name, path in self._files().items()
        )

    def get_template(self, name: str) -> str:
        """The text of a template.

        Raises:
            NotFoundError: no template has this name; names all templates.
            CoreInfraError: its file cannot be read.
        """
        files = self._files()
        if name not in files:
            raise NotFoundError(
                f"there is no template {name!r}",
                why=f"there are {', '.join(sorted(files))}",
                todo=f"Your own are {DIRECTORY}/NAME{_SUFFIX}, here or in your home directory.",
            )
        return self._read(files[name])

    def apply_template(self, name: str, variables: Mapping[str, str]) -> str:
        """The text of a template with its variables substituted.

        Raises:
            NotFoundError: no template has this name.
            MissingVariablesError: required variables are not given; names all of them.
            InvalidError: a value cannot stand at its place.
        """
        text = self.get_template(name)
        try:
            return apply_variables(text, variables)
        except MissingVariablesError as error:
            options = " ".join(f"--var {missing}=…" for missing in error.names)
            raise MissingVariablesError(
                f"template {name}: {error.what}", todo=f"Give: {options}", names=error.names
            ) from error

    def linuxkit_file(self, name: str, variables: Mapping[str, str]) -> str:
        """The LinuxKit file of a template: its variables substituted, and all fields checked.

        Raises:
            InvalidFileError: it has mistakes; lists all of them.
            NotFoundError, MissingVariablesError, InvalidError: as :meth:`apply_template` does.
        """
        template, text = self.get_template(name), self.apply_template(name, variables)
        file = self._files()[name]
        path = file if isinstance(file, str) else f"{name}{_SUFFIX}"
        moved = text.count("\n") != template.count("\n")
        check_linuxkit(text, f"{path} with its variables" if moved else path)
        return text

    def path(self, name: str) -> str:
        """The path of a template's file; "" if it is built-in, or there is none."""
        file = self._files().get(name)
        return file if isinstance(file, str) else ""

    def _read(self, file: str | Traversable) -> str:
        return self._medium.read_text(file) if isinstance(file, str) else file.read_text("utf-8")

    def _description(self, file: str | Traversable) -> str:
        try:
            return _description(self._read(file))
        except CoreInfraError as error:  # the others must be listed all the same
            return error.what

    def _files(self) -> dict[str, str | Traversable]:
        """The file of each template: a built-in one, or a path."""
        found: dict[str, str | Traversable] = {
            entry.name.removesuffix(_SUFFIX): entry for entry in _own()
        }
        for directory in (DIRECTORY, posixpath.join(self._home, DIRECTORY)):
            if not self._medium.is_dir(directory):
                continue
            for file in self._medium.list(directory):
                path = posixpath.join(directory, file)
                name = file.removesuffix(_SUFFIX)
                new = file.endswith(_SUFFIX) and name and name not in found
                if new and self._medium.is_file(path):
                    found[name] = path
        return found


def _own() -> list[Traversable]:
    directory = resources.files("core_infra.vm._images.linuxkit") / "templates"
    return [entry for entry in directory.iterdir() if entry.name.endswith(_SUFFIX)]


def _description(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    comment = next((line for line in lines if line.startswith("#")), "")
    return comment.lstrip("#").strip()
