"""What a configuration file of ``core-infra jobs`` says: sources, handlers and limits."""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from core_infra.jobrunner._handlers.merge_rules import MergeRules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Wanted: TypeAlias = bool | int | str | list[bool | int | str]


def fits(repo: str, pattern: str) -> bool:
    """Whether a repository is that one, or fits a pattern such as ``acme/*``; ignores case."""
    return fnmatch.fnmatchcase(repo.lower(), pattern.lower())


@dataclass(frozen=True)
class DirectoryConfig:
    """A directory of JSON files."""

    path: str
    name: str = "directory"


@dataclass(frozen=True)
class AppConfig:
    """A GitHub App, whose tokens are made when they are needed."""

    id: str
    installation: int
    key_file: str


@dataclass(frozen=True)
class ForgeConfig:
    """Repositories of a forge; the fields are those of the file."""

    type: str
    repos: Sequence[str] = ()
    name: str = ""
    url: str = ""
    token_env: str = ""
    token_file: str = ""
    app: AppConfig | None = None
    exclude: Sequence[str] = ()
    label: str = "epic"
    report: bool = True
    handlers: Sequence[str] = ()
    merge: MergeRules = dataclasses.field(default_factory=MergeRules)
    chain: bool = False
    priority: int = 0
    overrides: Mapping[str, ForgeConfig] = dataclasses.field(default_factory=dict)

    def of(self, repo: str) -> ForgeConfig:
        """The settings of one of the repositories."""
        found = (one for name, one in self.overrides.items() if name.lower() == repo.lower())
        return next(found, self)


@dataclass(frozen=True)
class DispatchConfig:
    """Tickets for assignees."""

    queue: str
    name: str = "dispatch"
    chain: bool = False
    agents: Sequence[str] = ()
    target_branch: str = ""


@dataclass(frozen=True)
class CommandConfig:
    """A program."""

    name: str
    command: Sequence[str]
    when: Mapping[str, Wanted]
    check: Sequence[str] = ()
    timeout: float | None = None
    env: Sequence[str] = ()
    chain: bool = False


@dataclass(frozen=True)
class JobsConfig:
    """The whole file; docs/jobrunner.md describes each field.

    Attributes:
        journal: the directory of the journal.
        poll_interval: seconds between two cycles.
        poll_timeout: seconds that polling a source may take.
        job_timeout: seconds that an action may take.
        workers: how many actions run in parallel.
        attempts: how often an action is tried until it is given up.
        dry_run: whether actions are only recorded.
        dry_run_handlers: the handlers whose actions are only recorded.
        journal_bodies: whether the journal has the texts of issues.
        database: the environment variable with the address of a PostgreSQL database that several
            hosts share; empty for one host.
        webhook_secret_env: the environment variable with the secret of webhooks.
        webhook_secret_file: a file with it, instead.
        sources: the sources of signals.
        handlers: the handlers of signals.
    """

    journal: str = ".core/journal"
    poll_interval: float = 60.0
    poll_timeout: float = 60.0
    job_timeout: float = 600.0
    workers: int = 16
    attempts: int = 10
    dry_run: bool = False
    dry_run_handlers: Sequence[str] = ()
    journal_bodies: bool = False
    database: str = ""
    webhook_secret_env: str = ""
    webhook_secret_file: str = ""
    sources: Sequence[DirectoryConfig | ForgeConfig] = ()
    handlers: Sequence[DispatchConfig | CommandConfig] = ()
