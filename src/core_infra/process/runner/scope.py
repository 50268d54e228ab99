"""The variables that a task file has."""

from __future__ import annotations

import os
import posixpath
from functools import partial
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.medium.errors import PathNotFoundError
from core_infra.process.runner.variables import NAME, expand, read_dotenv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.medium.medium import Medium
    from core_infra.process.runner.nodes import Item, Reader


def read_text(medium: Medium, path: str) -> str:
    """A file's text.

    Raises:
        InvalidError: it is not written in UTF-8.
        CoreInfraError: it cannot be read.
    """
    try:
        return medium.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"cannot run {path}",
            why=f"it is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
        ) from None


class Scope:
    """What ``vars``, ``env`` and ``dotenv`` of a file say, above our own environment.

    Args:
        medium: where the files are.
        directory: that of the task file.
        reader: reads it.
        given: values that take the place of those in the file.

    Attributes:
        mistakes: in files of variables: a file, a line and a sentence for each.
    """

    def __init__(
        self, medium: Medium, directory: str, reader: Reader, given: Mapping[str, str]
    ) -> None:
        self.mistakes: list[tuple[str, int, str]] = []
        self._medium = medium
        self._directory = directory
        self._reader = reader
        self._given = given
        self._env: dict[str, str | None] = {}
        self._vars: dict[str, str | None] = dict(given)
        self._values: dict[str, str | None] = {}

    def read(self, top: Mapping[str, Item]) -> None:
        """Take what the file says."""
        read = self._reader
        for item in read.items(top["dotenv"]) if "dotenv" in top else ():
            found = self._dotenv(item)
            # As everywhere: what is set for this run is not undone by a file.
            self._env |= {name: value for name, value in found.items() if name not in os.environ}
        if "vars" in top:
            own = {name: read.text(item) for name, item in self._names(top["vars"])}
            self._vars = {**own, **self._given}
        self._values = {**os.environ, **self._env, **self._vars}
        if "env" in top:
            env = {name: self.variable(item) for name, item in self._names(top["env"])}
            self._env |= {name: self._given.get(name, value) for name, value in env.items()}
            self._values = {**os.environ, **self._env, **self._vars}

    def environment(self, *, script: bool) -> dict[str, str | None]:
        """What is added to the environment of a task.

        Args:
            script: it is one for a shell. Variables are given to it as such: replaced in its text,
                a value could become a part of the script.
        """
        return {**self._env, **self._vars} if script else self._env

    def text(self, item: Item) -> str:
        """A text with its variables replaced."""
        return self.expanded(item, self._reader.text(item))

    def variable(self, item: Item) -> str | None:
        """The same, or None for nothing."""
        value = self._reader.variable(item)
        return None if value is None else self.expanded(item, value)

    def expanded(self, item: Item, text: str) -> str:
        """A text of an item, with its variables replaced."""
        return expand(text, self._values, partial(self._reader.complain, item))

    def _names(self, item: Item) -> list[tuple[str, Item]]:
        entries = self._reader.mapping(item)
        for name, entry in entries.items():
            if not NAME.fullmatch(name):
                self._reader.complain(entry, f"{name!r} cannot be a variable's name")
        return [*entries.items()]

    def _dotenv(self, item: Item) -> dict[str, str]:
        written = self._reader.text(item)
        path = posixpath.join(self._directory, written.removesuffix("?"))
        try:
            text = read_text(self._medium, path)
        except PathNotFoundError:
            if not written.endswith("?"):
                hint = f"write {written + '?'!r} if it may be missing"
                self._reader.complain(item, f"there is no file {path!r}; {hint}")
            return {}
        except CoreInfraError as error:
            self._reader.complain(item, str(error))
            return {}
        return read_dotenv(text, lambda line, why: self.mistakes.append((path, line, why)))
