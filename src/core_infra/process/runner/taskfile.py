"""Specs in a YAML file."""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yaml import SequenceNode

from core_infra.errors import InvalidError
from core_infra.process.runner.graph import listed, mistakes
from core_infra.process.runner.nodes import Item, Reader
from core_infra.process.runner.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.medium.medium import Medium

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
)

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_EXPANDED = re.compile(r"[$`]|\\\n")
"""What double quotes do not protect."""
_FOR_A_SHELL = re.compile(r"[|&;<>()$`*\n]")
"""What is something else in a shell than here, where the program would get it as it is."""

_SHELL = ["/bin/sh", "-euc"]

UNUSED = "unused"
"""Stands for what could not be read; the mistake is noted, so nobody gets to see it."""


class TaskFileError(InvalidError):
    """A task file that cannot be run.

    Attributes:
        path: the file.
        mistakes: all that was found: a line and a sentence for each.
    """


@dataclass(frozen=True)
class TaskFile:
    """What a task file says.

    Attributes:
        specs: the tasks, in the file's order.
        cleanup: the tasks under ``finally``, which run after all others.
        workers: how many run at once; None if the file leaves that open.
        pools: how many places each pool has.
    """

    specs: tuple[RunSpec, ...]
    workers: int | None = None
    pools: Mapping[str, int] = field(default_factory=dict)
    cleanup: tuple[RunSpec, ...] = ()


def with_args(spec: RunSpec, args: Sequence[str]) -> RunSpec:
    """A task of a file with more arguments; a script has them as ``$1``, ``$2``, …."""
    name = ("sh",) if spec.argv[:-1] == _SHELL else ()
    return replace(spec, args=[*spec.args, *name, *args])


def load_tasks(medium: Medium, path: str) -> TaskFile:
    """Read a task file; ``docs/runner.md`` describes its form.

    Args:
        medium: where the file is.
        path: the file; tasks run in its directory, or in ``dir`` relative to it.

    Raises:
        InvalidError: it is not written in UTF-8.
        TaskFileError: something in it is wrong; all that is, is named with its line.
        CoreInfraError: the file cannot be read.
    """
    reader = Reader()
    try:
        text = medium.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"cannot run {path}",
            why=f"it is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
        ) from None
    document = reader.parse(text)
    loaded = _Loader(reader, posixpath.dirname(path)).load(document) if document else TaskFile(())
    if reader.mistakes:
        found = sorted(set(reader.mistakes))
        raise TaskFileError(
            f"cannot run {path}",
            why=listed([f"{path}:{line}: {text}" for line, text in found]),
            path=path,
            mistakes=found,
        )
    return loaded


class _Loader:
    """Makes specs of nodes."""

    def __init__(self, reader: Reader, directory: str) -> None:
        self._reader = reader
        self._directory = directory

    def load(self, document: Item) -> TaskFile:
        read = self._reader
        top = read.known(document, ("workers", "pools", "tasks", "finally"))
        workers = read.whole(top["workers"], 1) if "workers" in top else None
        pools = read.mapping(top["pools"]) if "pools" in top else {}
        places = {name: read.whole(item, 1) for name, item in pools.items()}
        if "tasks" not in top:
            read.complain(document, "it has no tasks")
            return TaskFile(())
        tasks = read.mapping(top["tasks"])
        cleanup = read.mapping(top["finally"]) if "finally" in top else {}
        for name in cleanup.keys() & tasks.keys():
            text = f"a task of this name is there already, on line {tasks[name].line}"
            read.complain(cleanup[name], text)
        specs, finals = self._specs(tasks, places), self._specs(cleanup, places)
        return TaskFile(specs, workers, places, finals)

    def _specs(self, tasks: Mapping[str, Item], places: Mapping[str, int]) -> tuple[RunSpec, ...]:
        read = self._reader
        fields = {name: read.known(item, _FIELDS) for name, item in tasks.items()}
        specs = [self._spec(name, item, fields[name]) for name, item in tasks.items()]
        if not read.mistakes:
            for mistake in mistakes(specs, places, [spec.after for spec in specs]):
                name = specs[mistake.spec].name
                item = fields[name].get(mistake.field, tasks[name])
                read.complain(item, mistake.text)
        return tuple(specs)

    def _spec(self, name: str, item: Item, given: Mapping[str, Item]) -> RunSpec:
        read = self._reader
        command, *args = self._argv(item, given)
        env = read.mapping(given["env"]) if "env" in given else {}
        try:
            return RunSpec(
                name,
                command,
                args,
                dir=self._dir(given),
                env={variable: read.variable(value) for variable, value in env.items()},
                after=read.texts(given["after"]) if "after" in given else (),
                allow_failure="allow_failure" in given and read.flag(given["allow_failure"]),
                retries=read.whole(given["retries"], 0) if "retries" in given else 0,
                timeout=read.seconds(given["timeout"]) if "timeout" in given else None,
                pools=read.texts(given["pools"]) if "pools" in given else (),
                **self._more(given),
            )
        except InvalidError as error:
            read.complain(item, error.why)
            return RunSpec(UNUSED, UNUSED)

    def _more(self, given: Mapping[str, Item]) -> dict[str, Any]:
        """What few tasks say."""
        read = self._reader
        found: dict[str, Any] = {}
        if "stop_signal" in given:
            found["stop_signal"] = read.signal(given["stop_signal"])
        if "grace" in given:
            found["grace"] = read.seconds(given["grace"], or_none=True)
        if "description" in given:
            found["description"] = read.line(given["description"])
        return found

    def _argv(self, item: Item, given: Mapping[str, Item]) -> list[str]:
        read = self._reader
        args = read.texts(given["args"]) if "args" in given else []
        if ("command" in given) == ("shell" in given):
            # With a field misspelt, what is missing may be that one.
            if not any(text.startswith(f"{item.where}.") for _, text in read.mistakes):
                read.complain(item, "a task has either a command or a shell")
        elif "shell" in given:
            return [*_SHELL, read.text(given["shell"]), *(["sh", *args] if args else [])]
        elif argv := self._command(given["command"]):
            return [*argv, *args]
        return [UNUSED]

    def _command(self, item: Item) -> list[str]:
        read = self._reader
        argv = read.texts(item) if isinstance(item.node, SequenceNode) else self._split(item)
        if not argv:
            read.complain(item, "the command is empty")
        return argv

    def _split(self, item: Item) -> list[str]:
        text = self._reader.text(item).strip()
        if found := _FOR_A_SHELL.search(_QUOTED.sub(_unprotected, text)):
            hint = "write it under 'shell' instead of 'command', or within single quotes"
            self._reader.complain(item, f"{found[0]!r} needs a shell: {hint}")
            return [UNUSED]
        try:
            return shlex.split(text)
        except ValueError as error:
            self._reader.complain(item, f"{error} in {text!r}")
            return [UNUSED]

    def _dir(self, given: Mapping[str, Item]) -> str | None:
        own = self._reader.text(given["dir"]) if "dir" in given else ""
        return posixpath.join(self._directory, own) or None


def _unprotected(quoted: re.Match[str]) -> str:
    return "".join(_EXPANDED.findall(quoted[0])) if quoted[0][0] == '"' else ""
