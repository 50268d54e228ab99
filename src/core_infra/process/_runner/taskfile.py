"""Specs in a YAML file."""

from __future__ import annotations

import math
import posixpath
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from core_infra._wording import similar
from core_infra._yaml.document import Document
from core_infra._yaml.field import Field
from core_infra._yaml.mistakes import file_error, in_order
from core_infra._yaml.reading import each, each_value, read_document, whole
from core_infra.errors import CoreInfraError, InvalidError, InvalidFileError, Mistake
from core_infra.medium._arguments import check_methods
from core_infra.process._runner.graph import mistakes
from core_infra.process._runner.spec import RunSpec
from core_infra.process._runner.variables import Scope, split_command, unprotect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra._yaml.field import Fields
    from core_infra.medium._medium import Medium

_TOP = ("workers", "pools", "vars", "env", "dotenv", "include", "tasks", "finally")
_FIELDS = (
    "command",
    "args",
    "shell",
    "dir",
    "env",
    "after",
    "allow_failure",
    "retries",
    "timeout",
    "pools",
    "stop_signal",
    "grace",
    "description",
    "inputs",
    "outputs",
)
_SHELL = ["/bin/sh", "-euc"]
_DEEPEST = 32
"""Files that include each other; by links, a file can include itself under ever new names."""

UNUSED = "unused"
"""Stands for what could not be read; the mistake is noted, so nobody gets to see it."""


_SIGNALS = [
    spelling for name in signal.Signals.__members__ for spelling in (name, name.removeprefix("SIG"))
]


class TaskFileError(InvalidFileError):
    """A task file has mistakes; those of files that it includes are among them.

    Attributes:
        path: the file.
        mistakes: all of them, each with ``file``, ``line``, ``column``, ``field``, ``message`` and
            ``expected``.
    """


@dataclass(frozen=True)
class TaskFile:
    """What a task file says.

    Attributes:
        specs: the tasks, in the file's order; then those of files that it includes.
        cleanup: the tasks under ``finally``, which run after all others.
        workers: how many run at once; None if the file leaves that open.
        pools: how many places each pool has.
        files: itself, and what it includes.
    """

    specs: tuple[RunSpec, ...]
    workers: int | None = None
    pools: Mapping[str, int] = field(default_factory=dict)
    cleanup: tuple[RunSpec, ...] = ()
    files: tuple[str, ...] = ()


def with_args(spec: RunSpec, args: Sequence[str]) -> RunSpec:
    """A task of a file with more arguments; a script has them as ``$1``, ``$2``, …."""
    name = ("sh",) if spec.argv[:-1] == _SHELL else ()
    return replace(spec, args=[*spec.args, *name, *args])


def load_tasks(medium: Medium, path: str, variables: Mapping[str, str] | None = None) -> TaskFile:
    """Read a task file; ``docs/runner.md`` describes its form.

    Args:
        medium: where the file is.
        path: the file; tasks run in its directory, or in ``dir`` relative to it.
        variables: values that take the place of those that the file gives its variables.

    Raises:
        TaskFileError: it has mistakes; carries all of them with their places.
        CoreInfraError: the file cannot be read.
    """
    check_methods("medium", medium, "a medium", "read_bytes")
    loader = _Loader(medium, (path,), variables or {}, medium.read_bytes(path))
    loaded = loader.load()
    if loader.mistakes:
        raise file_error(TaskFileError, path, in_order(loader.mistakes))
    return loaded


class _Loader:
    """Makes specs of a file.

    Args:
        medium: where the files are.
        paths: the file, after those that include it.
        given: values of variables.
        data: the file's content.
    """

    def __init__(
        self, medium: Medium, paths: Sequence[str], given: Mapping[str, str], data: bytes
    ) -> None:
        self._medium = medium
        self._paths = paths
        self._given = given
        self._directory = posixpath.dirname(paths[-1])
        self._document = Document(data, paths[-1])
        self._elsewhere: list[Mistake] = []
        self._scope = Scope(medium, self._directory, given)

    @property
    def mistakes(self) -> list[Mistake]:
        """All so far, in this file and in those that it includes."""
        return self._document.mistakes + self._scope.mistakes + self._elsewhere

    def load(self) -> TaskFile:
        """What the file says; some tasks if there are mistakes."""
        return read_document(self._document, self._file) or TaskFile(())

    def _file(self, document: Field) -> TaskFile:
        if document.kind == "null":
            document.fail("the file is empty", "tasks")
        top = document.fields(_TOP)
        workers = top.optional("workers", whole(1), None)
        places = top.optional("pools", each_value(whole(1)), {})
        self._scope.read(top)
        included = top.optional("include", self._included, TaskFile(()))
        if "include" in top:
            tasks = top.optional("tasks", Field.entries, {})
        else:
            tasks = top.required("tasks", Field.entries, {})
        cleanup = top.optional("finally", Field.entries, {})
        for name in cleanup.keys() & tasks.keys():
            line = tasks[name].line
            cleanup[name].note_key(f"a task of this name is there already, on line {line}")
        places |= included.pools
        specs = self._specs(tasks, places, included.specs)
        finals = self._specs(cleanup, places, included.cleanup)
        files = (self._paths[-1], *included.files)
        return TaskFile(specs, workers, places, finals, files)

    def _specs(
        self, tasks: Mapping[str, Field], places: Mapping[str, int], others: tuple[RunSpec, ...]
    ) -> tuple[RunSpec, ...]:
        read = {name: task.take(_fields, None) for name, task in tasks.items()}
        given = {name: fields for name, fields in read.items() if fields is not None}
        specs = [self._spec(name, tasks[name], fields) for name, fields in given.items()]
        if not self.mistakes:
            both = [*others, *specs]  # a name that is there twice is a mistake of this file
            for mistake in mistakes(both, places, [spec.after for spec in both]):
                name = both[mistake.spec].name
                given[name].get(mistake.field, tasks[name]).note(mistake.text)
        return (*specs, *others)

    def _included(self, field: Field) -> TaskFile:
        specs: list[RunSpec] = []
        cleanup: list[RunSpec] = []
        pools: dict[str, int] = {}
        files: list[str] = []
        for space, found in each_value(self._include)(field).items():
            specs += [_within(space, spec) for spec in found.specs]
            files += found.files
            cleanup += [_within(space, spec) for spec in found.cleanup]
            pools |= {f"{space}:{name}": places for name, places in found.pools.items()}
        return TaskFile(tuple(specs), None, pools, tuple(cleanup), tuple(files))

    def _include(self, field: Field) -> TaskFile:
        written = field.text()
        if not written:
            field.reject("the path of a file")
        path = posixpath.normpath(posixpath.join(self._directory, written))
        known = [posixpath.normpath(one) for one in self._paths]
        if path in known or len(known) >= _DEEPEST:
            ring = " -> ".join([*known[known.index(path) if path in known else 0 :], path])
            field.fail(f"{ring}: a file cannot include itself")
        try:
            data = self._medium.read_bytes(path)
        except CoreInfraError as error:
            field.fail(str(error))
        loader = _Loader(self._medium, (*self._paths, path), self._given, data)
        loaded = loader.load()
        self._elsewhere += loader.mistakes
        return loaded

    def _spec(self, name: str, task: Field, given: Fields) -> RunSpec:
        command, *args = self._argv(task, given)
        env = given.optional("env", self._env, {})
        shared = self._scope.environment(script="shell" in given)
        try:
            return RunSpec(
                name,
                command,
                args,
                dir=self._dir(given),
                env={**shared, **env},
                after=given.optional("after", each(Field.text), ()),
                allow_failure=given.optional("allow_failure", Field.flag, default=False),
                retries=given.optional("retries", whole(0), 0),
                timeout=given.optional("timeout", _seconds, None),
                pools=given.optional("pools", each(Field.text), ()),
                **self._more(given),
            )
        except InvalidError as error:
            task.note(error.why)
            return RunSpec(UNUSED, UNUSED)

    def _env(self, field: Field) -> dict[str, str | None]:
        return each_value(self._scope.variable)(field.private())

    def _more(self, given: Fields) -> dict[str, Any]:
        """What few tasks say."""
        texts = each(self._scope.text)
        readers: dict[str, Callable[[Field], Any]] = {
            "stop_signal": _signal,
            "grace": _grace,
            "inputs": texts,
            "outputs": texts,
            "description": Field.text_line,
        }
        found = {name: given.optional(name, read, None) for name, read in readers.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _argv(self, task: Field, given: Fields) -> list[str]:
        args = given.optional("args", each(self._scope.text), ())
        if "command" in given and "shell" in given:
            task.note("a task has either a command or a shell, not both")
        elif "shell" in given:
            script = given.optional("shell", Field.text, UNUSED)
            return [*_SHELL, script, *(["sh", *args] if args else [])]
        elif "command" in given:
            return [*given.optional("command", self._command, [UNUSED]), *args]
        # With a field misspelt, what is missing may be that one.
        elif not any(one.field.startswith(f"{task.name}.") for one in self._document.mistakes):
            task.missing("command").note("missing field; a task has either a command or a shell")
        return [UNUSED]

    def _command(self, field: Field) -> list[str]:
        if field.kind == "seq":
            if not field.items():
                field.fail("the command is empty")
            return [*each(self._scope.text)(field)] or [UNUSED]
        try:
            words = split_command(field.text().strip())
        except ValueError as error:
            field.fail(str(error))
        if not words:
            field.fail("the command is empty")
        return [unprotect(self._scope.expanded(field, word)) for word in words]

    def _dir(self, given: Fields) -> str | None:
        own = given.optional("dir", self._scope.text, "")
        return posixpath.join(self._directory, own) or None


def _fields(task: Field) -> Fields:
    return task.fields(_FIELDS)


def _signal(field: Field) -> int:
    """A signal by its name, with or without SIG, or by its number."""
    text = field.text()
    names = signal.Signals.__members__
    by_number = {str(int(one)): int(one) for one in signal.valid_signals()}
    number = names.get(text) or names.get(f"SIG{text}") or by_number.get(text.lstrip("0"))
    if number is None:
        field.fail(f"there is no signal {text!r}{similar(text.upper(), _SIGNALS)}", "a signal")
    return number


def _seconds(field: Field) -> float:
    value = _number(field)
    if value is None or value <= 0:
        field.reject("a number of seconds above 0")
    return value


def _grace(field: Field) -> float:
    value = _number(field)
    if value is None or value < 0:
        field.reject("a number of seconds, 0 or more")
    return value


def _number(field: Field) -> float | None:
    if field.kind not in {"int", "float"}:
        return None
    try:
        value = float(field.scalar)
    except ValueError:  # YAML has numbers that Python does not have: 1:30, .inf
        return None
    return value if math.isfinite(value) else None


def _within(space: str, spec: RunSpec) -> RunSpec:
    """A task of a file that is included under a name."""
    return replace(
        spec,
        name=f"{space}:{spec.name}",
        after=[f"{space}:{name}" for name in spec.after],
        pools=[f"{space}:{name}" for name in spec.pools],
    )
