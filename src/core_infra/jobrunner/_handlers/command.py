"""Runs a program on a signal."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError
from core_infra.jobrunner._signal import PipelineSignal, why_impossible
from core_infra.process._options import RunOptions
from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._signal import ActionResult


_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW(OR)?D|CREDENTIAL|API_?KEY|PRIVATE_?KEY|PGPASS|_DSN$", re.IGNORECASE
)


class CommandHandler:
    """Runs a program, with the signal as JSON on its standard input.

    No part of the signal is passed to a shell or the command line: titles and texts cannot be
    trusted. The program's environment has ``CORE_INFRA_JOB_ID`` (the same for each attempt of this
    action), ``CORE_INFRA_JOB_ACTION``, ``CORE_INFRA_JOB_ATTEMPT`` and ``CORE_INFRA_JOB_CYCLE``.
    Exit code 0 means that the action was done.

    An action that was interrupted or has failed is not tried again, because it is unknown how far
    the program got. A :class:`CheckedCommandHandler` finds out.

    Args:
        name: the name of the action.
        command: the program and its arguments.
        when: the fields of a signal that it matches, each with its value or a list of values.
        timeout: seconds that the program may take, if less than the poller's ``job_timeout``.
        service: runs the program; None for a service of its own.
        keep_env: variables that the program inherits although they look like secrets (TOKEN,
            SECRET, PASSWORD, … in the name): it inherits no others of those.
        drop_env: more variables that it does not inherit.
        chain: whether handlers behind it may act on the same signals, too.

    Raises:
        InvalidError: the command is empty, a signal has no such field, or the field never has
            such a value.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        when: Mapping[str, object],
        timeout: float | None = None,
        service: Service | None = None,
        keep_env: Collection[str] = (),
        drop_env: Collection[str] = (),
        chain: bool = False,
    ) -> None:
        self.chain = chain
        self._keep_env = frozenset(keep_env)
        self._drop_env = frozenset(drop_env)
        if not command or isinstance(command, str):
            raise InvalidError(f"the command of {name!r} is {command!r}", todo="Give a list.")
        if unknown := sorted(set(when) - set(PipelineSignal.__dataclass_fields__)):
            raise InvalidError(
                f"handler {name!r} cannot look at {', '.join(unknown)}",
                why="signals have no such field",
            )
        for field, wanted in when.items():
            _check_values(name, field, _as_collection(wanted))
        self.name = name
        self._command = list(command)
        self._when = {field: _as_collection(wanted) for field, wanted in when.items()}
        self._timeout = timeout
        self._service = service

    def match(self, signal: PipelineSignal) -> bool:
        """Whether all fields have one of their values."""
        return all(getattr(signal, field) in wanted for field, wanted in self._when.items())

    def execute(self, signal: PipelineSignal, job: Job) -> ActionResult:
        """Run the program."""
        try:
            self._run(self._command, signal, job)
        except CommandFailedError as error:
            return job.failed(str(error))
        return job.done()

    def rehearse(self, signal: PipelineSignal, job: Job) -> Sequence[str]:
        """List the command."""
        del job
        return [f"run {shlex.join(self._command)} for {signal.item}"]

    def _run(self, command: Sequence[str], signal: PipelineSignal, job: Job) -> None:
        # Earlier than the poller's limit: the service can end the program, the poller cannot.
        limits = [limit for limit in (self._timeout, job.timeout * 0.9) if limit is not None]
        options = RunOptions(
            command[0],
            command[1:],
            stdin=json.dumps(signal.to_dict()),
            timeout=min(limits),
            env={
                **self._without_secrets(),
                "CORE_INFRA_JOB_ID": job.id,
                "CORE_INFRA_JOB_ACTION": job.action,
                "CORE_INFRA_JOB_ATTEMPT": str(job.attempt),
                "CORE_INFRA_JOB_CYCLE": str(job.cycle),
            },
        )
        if self._service is not None:
            self._service.run_with_options(options)
            return
        with Service() as service:
            service.run_with_options(options)

    def _without_secrets(self) -> dict[str, None]:
        names = [name for name in os.environ if name in self._drop_env or _SECRET.search(name)]
        return dict.fromkeys(name for name in names if name not in self._keep_env)


class CheckedCommandHandler(CommandHandler):
    """Runs a program, and later another one that finds out whether the action was done.

    Args:
        name: the name of the action.
        command: the program and its arguments.
        check: a program that gets the same signal and environment. Exit code 0 means that the
            action was done, 1 that it was not, any other that this cannot be found out now.
        when: as for :class:`CommandHandler`.
        timeout: as for :class:`CommandHandler`.
        service: as for :class:`CommandHandler`.
        keep_env: as for :class:`CommandHandler`.
        drop_env: as for :class:`CommandHandler`.
        chain: as for :class:`CommandHandler`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        check: Sequence[str],
        when: Mapping[str, object],
        timeout: float | None = None,
        service: Service | None = None,
        keep_env: Collection[str] = (),
        drop_env: Collection[str] = (),
        chain: bool = False,
    ) -> None:
        super().__init__(
            name,
            command,
            when=when,
            timeout=timeout,
            service=service,
            keep_env=keep_env,
            drop_env=drop_env,
            chain=chain,
        )
        self._check = list(check)

    def happened(self, signal: PipelineSignal, job: Job) -> bool:
        """Run the program that finds out whether the action was done.

        Raises:
            CoreInfraError: it could not find out.
        """
        try:
            self._run(self._check, signal, job)
        except CommandFailedError as error:
            if error.exit_code == 1:
                return False
            raise CoreInfraError(f"cannot find out about {self.name}", why=str(error)) from error
        return True


def _check_values(name: str, field: str, wanted: Collection[object]) -> None:
    problem = "" if wanted else "The list is empty"
    for value in wanted:
        problem = problem or why_impossible(field, value)
    if problem:
        found = repr(next(iter(wanted))) if len(wanted) == 1 else repr(list(wanted))
        raise InvalidError(
            f"handler {name!r} would never match",
            why=f"it requires {field} to be {found:.100}",
            todo=f"{problem}.",
        )


def _as_collection(wanted: object) -> Collection[object]:
    return wanted if isinstance(wanted, list | tuple | set | frozenset) else (wanted,)
