"""Specs in a YAML file."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yaml import SequenceNode

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.process._runner import command_text
from core_infra.process._runner.graph import listed, mistakes
from core_infra.process._runner.nodes import Item, Reader
from core_infra.process._runner.spec import RunSpec
from core_infra.process._runner.variables import Scope, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class TaskFileError(InvalidError):
    """A task file that cannot be run.

    Attributes:
        path: the file.
        mistakes: all that was found, also in files that it includes: a line and a sentence for
            each. The message has the file of each, too.
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
        InvalidError: it is not written in UTF-8.
        TaskFileError: something in it is wrong; all that is, is named with its line.
        CoreInfraError: the file cannot be read.
    """
    loader = _Loader(medium, (path,), variables or {})
    loaded = loader.load(read_text(medium, path))
    if loader.mistakes:
        order = list(dict.fromkeys(file for file, _, _ in loader.mistakes))
        found = sorted(set(loader.mistakes), key=lambda one: (order.index(one[0]), *one[1:]))
        raise TaskFileError(
            f"cannot run {path}",
            why=listed([f"{file}:{line}: {text}" for file, line, text in found]),
            path=path,
            mistakes=[(line, text) for _, line, text in found],
        )
    return loaded


class _Loader:
    """Makes specs of nodes.

    Args:
        medium: where the files are.
        paths: the file, after those that include it.
        given: values of variables.

    Attributes:
        mistakes: a file, a line and a sentence for each.
    """

    def __init__(self, medium: Medium, paths: Sequence[str], given: Mapping[str, str]) -> None:
        self._medium = medium
        self._paths = paths
        self._given = given
        self._directory = posixpath.dirname(paths[-1])
        self._reader = Reader()
        self._elsewhere: list[tuple[str, int, str]] = []
        self._scope = Scope(medium, self._directory, self._reader, given)

    @property
    def mistakes(self) -> list[tuple[str, int, str]]:
        """All so far, in this file and in those that it includes."""
        own = [(self._paths[-1], line, text) for line, text in self._reader.mistakes]
        return own + self._scope.mistakes + self._elsewhere

    def load(self, text: str) -> TaskFile:
        read = self._reader
        document = read.parse(text)
        if document is None:
            return TaskFile(())
        top = read.known(document, _TOP)
        workers = read.whole(top["workers"], 1) if "workers" in top else None
        pools = read.mapping(top["pools"]) if "pools" in top else {}
        places = {name: read.whole(item, 1) for name, item in pools.items()}
        self._scope.read(top)
        included = self._included(top["include"]) if "include" in top else TaskFile(())
        if "tasks" not in top and "include" not in top:
            read.complain(document, "it has no tasks")
            return TaskFile(())
        tasks = read.mapping(top["tasks"]) if "tasks" in top else {}
        cleanup = read.mapping(top["finally"]) if "finally" in top else {}
        for name in cleanup.keys() & tasks.keys():
            text = f"a task of this name is there already, on line {tasks[name].line}"
            read.complain(cleanup[name], text)
        places |= included.pools
        specs = self._specs(tasks, places, included.specs)
        finals = self._specs(cleanup, places, included.cleanup)
        files = (self._paths[-1], *included.files)
        return TaskFile(specs, workers, places, finals, files)

    def _specs(
        self, tasks: Mapping[str, Item], places: Mapping[str, int], others: tuple[RunSpec, ...]
    ) -> tuple[RunSpec, ...]:
        read = self._reader
        fields = {name: read.known(item, _FIELDS) for name, item in tasks.items()}
        specs = [self._spec(name, item, fields[name]) for name, item in tasks.items()]
        if not self.mistakes:
            both = [*others, *specs]  # a name that is there twice is a mistake of this file
            for mistake in mistakes(both, places, [spec.after for spec in both]):
                name = both[mistake.spec].name
                item = fields[name].get(mistake.field, tasks[name])
                read.complain(item, mistake.text)
        return (*specs, *others)

    def _included(self, item: Item) -> TaskFile:
        specs: list[RunSpec] = []
        cleanup: list[RunSpec] = []
        pools: dict[str, int] = {}
        files: list[str] = []
        for space, entry in self._reader.mapping(item).items():
            found = self._include(entry)
            specs += [_within(space, spec) for spec in found.specs]
            files += found.files
            cleanup += [_within(space, spec) for spec in found.cleanup]
            pools |= {f"{space}:{name}": places for name, places in found.pools.items()}
        return TaskFile(tuple(specs), None, pools, tuple(cleanup), tuple(files))

    def _include(self, item: Item) -> TaskFile:
        written = self._reader.text(item)
        path = posixpath.normpath(posixpath.join(self._directory, written))
        known = [posixpath.normpath(one) for one in self._paths]
        if not written:
            return TaskFile(())
        if path in known or len(known) >= _DEEPEST:
            ring = " -> ".join([*known[known.index(path) if path in known else 0 :], path])
            self._reader.complain(item, f"{ring}: a file cannot include itself")
            return TaskFile(())
        try:
            text = read_text(self._medium, path)
        except CoreInfraError as error:
            self._reader.complain(item, str(error))
            return TaskFile(())
        loader = _Loader(self._medium, (*self._paths, path), self._given)
        loaded = loader.load(text)
        self._elsewhere += loader.mistakes
        return loaded

    def _spec(self, name: str, item: Item, given: Mapping[str, Item]) -> RunSpec:
        read = self._reader
        command, *args = self._argv(item, given)
        env = read.mapping(given["env"]) if "env" in given else {}
        shared = self._scope.environment(script="shell" in given)
        try:
            return RunSpec(
                name,
                command,
                args,
                dir=self._dir(given),
                env={**shared, **{key: self._scope.variable(value) for key, value in env.items()}},
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
        for name in given.keys() & {"inputs", "outputs"}:
            found[name] = [*map(self._scope.text, read.items(given[name]))]
        if "description" in given:
            found["description"] = read.line(given["description"])
        return found

    def _argv(self, item: Item, given: Mapping[str, Item]) -> list[str]:
        read = self._reader
        args = (
            [self._scope.text(one) for one in read.items(given["args"])] if "args" in given else []
        )
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
        if isinstance(item.node, SequenceNode):
            argv = [self._scope.text(one) for one in read.items(item)]
        else:
            try:
                words = command_text.split(read.text(item).strip())
            except ValueError as error:
                read.complain(item, str(error))
                return [UNUSED]
            argv = [command_text.unprotect(self._scope.expanded(item, word)) for word in words]
        if not argv:
            read.complain(item, "the command is empty")
        return argv

    def _dir(self, given: Mapping[str, Item]) -> str | None:
        own = self._scope.text(given["dir"]) if "dir" in given else ""
        return posixpath.join(self._directory, own) or None


def _within(space: str, spec: RunSpec) -> RunSpec:
    """A task of a file that is included under a name."""
    return replace(
        spec,
        name=f"{space}:{spec.name}",
        after=[f"{space}:{name}" for name in spec.after],
        pools=[f"{space}:{name}" for name in spec.pools],
    )
