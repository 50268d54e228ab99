"""The spec: a command or function to run, and what it waits for."""

from __future__ import annotations

import signal
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError
from core_infra.framework._handlers import is_async
from core_infra.process._options import RunOptions
from core_infra.process._values import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A command or function to run, and what it waits for.

    Attributes:
        name: its name in results, displays and other specs.
        command: the program, found on PATH; no shell is involved.
        args: its arguments.
        dir: its working directory; None is that of this process.
        env: variables that are added to the inherited environment; the value None removes one.
        after: names of the specs that must have passed before this one starts.
        allow_failure: specs after this one run even if it fails.
        retries: how many times it is tried again after a failure, each time once all that the
            failed attempt has left behind is killed.
        timeout: seconds that one attempt may take; then it is stopped with all that it started.
        pools: it takes one place of each of these pools while it runs. The runner has the number
            of places; a pool of one place is a mutex.
        call: a Python function to run instead of a command, on a thread of its own; not an async
            one. It fails by raising. It cannot be stopped early, so it takes no ``timeout``.
        stop_signal: the signal that stops the command, sent to its process group.
        grace: seconds between that signal and SIGKILL.
        description: its purpose in one line.
        inputs: patterns of files (``src/**/*.c``) or directories that the command reads; relative
            to *dir*.
        outputs: patterns of what it makes. A runner with ``freshness`` does not run a spec with
            inputs or outputs if its command, its own variables, its inputs and its outputs are as
            they were when it last passed, and no output is missing.

    Raises:
        InvalidError: a field has an impossible value; the error lists all such fields.
    """

    name: str
    command: str = ""
    args: Sequence[str] = ()
    dir: str | None = field(default=None, kw_only=True)
    env: Mapping[str, str | None] = field(default_factory=dict, kw_only=True)
    after: Sequence[str] = field(default=(), kw_only=True)
    allow_failure: bool = field(default=False, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    pools: Sequence[str] = field(default=(), kw_only=True)
    call: Callable[[], object] | None = field(default=None, kw_only=True)
    stop_signal: int = field(default=signal.SIGTERM, kw_only=True)
    grace: float = field(default=1.0, kw_only=True)
    description: str = field(default="", kw_only=True)
    inputs: Sequence[str] = field(default=(), kw_only=True)
    outputs: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if mistakes := [*_wrong_fields(self), *_wrong_command(self)]:
            raise InvalidError(
                f"the spec {self.name!r} cannot be run", why="; ".join(mistakes), spec=self.name
            )
        # Copies: later changes of the caller's lists must not bypass the checks.
        for name in ("args", "after", "pools", "inputs", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "env", dict(self.env))

    @property
    def argv(self) -> list[str]:
        """The command with its arguments."""
        return [self.command, *self.args]

    def options(self) -> RunOptions:
        """The options of its command."""
        return RunOptions(
            command=self.command,
            args=self.args,
            dir=self.dir,
            env=self.env,
            timeout=self.timeout,
            stop_signal=self.stop_signal,
            grace_period=self.grace,
            stdin=b"",
            merge=True,
        )


def _wrong_fields(spec: RunSpec) -> Iterator[str]:
    name: Any = spec.name
    if not isinstance(name, str) or not name.isprintable() or not name:
        yield "its name must be printable text, and not empty"
    for field_name in ("after", "pools", "inputs", "outputs"):
        found = getattr(spec, field_name)
        # A string is a sequence of strings, too: of its characters.
        if isinstance(found, str):
            yield f"{field_name} is one string, {found!r}: give a list"
        elif not isinstance(found, Collection) or not all(isinstance(one, str) for one in found):
            yield f"{field_name} is {found!r}: give a list of texts"
    env: Any = spec.env
    if not isinstance(env, Mapping):
        yield f"env is {env!r}: give a dict"
    retries: Any = spec.retries
    if not is_whole(retries) or retries < 0:
        yield f"retries is {retries!r}: give a whole number, 0 or more"
    if spec.call is not None and not callable(spec.call):
        yield f"call is {spec.call!r}: give a function"
    elif is_async(spec.call):
        yield f"call is async, {spec.call!r}: give a function that calls asyncio.run()"
    description: Any = spec.description
    if not isinstance(description, str) or "\n" in description:
        yield f"description is {description!r}: give one line of text"


def _wrong_command(spec: RunSpec) -> Iterator[str]:
    if spec.call is not None:
        for name in ("command", "args", "dir", "env", "timeout", "inputs", "outputs"):
            if getattr(spec, name):
                yield f"a call takes no {name}"
        if spec.stop_signal != signal.SIGTERM:
            yield "a call takes no stop_signal"
    elif not spec.command:
        yield "it has neither a command nor a call"
    else:
        try:
            spec.options().check()
        except InvalidError as error:
            yield error.why.replace("grace_period", "grace")
