"""The file that says which sources and handlers ``core-infra jobs`` has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core_infra.errors import InvalidError, NotFoundError
from core_infra.jobrunner.handlers import command, dispatch
from core_infra.jobrunner.sources.directory import DirectorySource
from core_infra.medium.local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner.forges.forge import Forge
    from core_infra.jobrunner.forges.token import Token
    from core_infra.jobrunner.ports import JobHandler, JobSource

DEFAULT = ".core/jobs.yaml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DirectoryConfig(_Model):
    """A folder of JSON files."""

    type: Literal["directory"]
    path: str
    name: str = "directory"


class ForgeConfig(_Model):
    """Repositories of a forge."""

    type: Literal["github", "forgejo"]
    repos: list[Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]] = Field(min_length=1)
    url: str = ""
    token_env: str = ""
    token_file: str = ""
    label: str = "epic"
    report: bool = True
    handlers: list[
        Literal[
            "enable_auto_merge",
            "publish_draft",
            "settle_reviews",
            "send_fix_command",
            "tick_parent",
            "completion",
        ]
    ] = []


class DispatchConfig(_Model):
    """Tickets for who is assigned."""

    type: Literal["dispatch"]
    queue: str
    name: str = "dispatch"


class CommandConfig(_Model):
    """A program."""

    type: Literal["command"]
    name: str
    command: list[str] = Field(min_length=1)
    when: dict[str, bool | int | str | list[bool | int | str]]
    check: list[str] = []
    timeout: float | None = Field(default=None, gt=0)


class JobsConfig(_Model):
    """The whole file."""

    journal: str = ".core/journal"
    poll_interval: float = Field(default=60.0, gt=0)
    poll_timeout: float = Field(default=60.0, gt=0)
    job_timeout: float = Field(default=600.0, gt=0)
    workers: int = Field(default=8, ge=1)
    attempts: int = Field(default=10, ge=1)
    dry_run: bool = False
    dry_run_handlers: list[str] = []
    sources: list[Annotated[DirectoryConfig | ForgeConfig, Field(discriminator="type")]] = []
    handlers: list[Annotated[DispatchConfig | CommandConfig, Field(discriminator="type")]] = []


def load(path: str) -> JobsConfig:
    """Read the file.

    Raises:
        NotFoundError: it is not there.
        InvalidError: it is not YAML, or not what it must be.
    """
    try:
        found = yaml.safe_load(Path(path).read_bytes())
        return JobsConfig.model_validate(found if found is not None else {})
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {path}",
            todo="Write one (docs/jobrunner.md shows how), or name another with --config.",
        ) from None
    except yaml.YAMLError as error:
        raise InvalidError(f"cannot read {path}", why=str(error)) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise InvalidError(f"cannot use {path}", why=problems) from error


def parts(config: JobsConfig) -> tuple[list[JobSource], list[JobHandler]]:
    """Make the sources and handlers that the file names.

    Handlers are asked in the order of the file: first those under ``handlers``, then those of
    each forge.

    Raises:
        CoreInfraError: one of them cannot be made.
    """
    sources: list[JobSource] = []
    handlers: list[JobHandler] = [_handler(one) for one in config.handlers]
    several = sum(isinstance(one, ForgeConfig) for one in config.sources) > 1
    for one in config.sources:
        if isinstance(one, DirectoryConfig):
            sources.append(DirectorySource(LocalMedium(), one.path, name=one.name))
        else:
            forge = _forge(one)
            sources += _epics(forge, one)
            handlers += _forge_handlers(forge, one, several=several)
    return sources, handlers


def _handler(config: DispatchConfig | CommandConfig) -> JobHandler:
    if isinstance(config, DispatchConfig):
        return dispatch.Dispatch(LocalMedium(), config.queue, name=config.name)
    if config.check:
        return command.CheckedCommandHandler(
            config.name,
            config.command,
            check=config.check,
            when=config.when,
            timeout=config.timeout,
        )
    return command.CommandHandler(
        config.name, config.command, when=config.when, timeout=config.timeout
    )


def _forge(config: ForgeConfig) -> Forge:
    # Imported for those who have a forge: it needs the extra "jobs".
    from core_infra.jobrunner.forges import forgejo, github, token  # noqa: PLC0415

    secret: Token | None = None
    if config.token_env or config.token_file:
        secret = token.Token(env=config.token_env, file=config.token_file)
    if config.type == "github":
        return github.GitHub(secret, config.url or github.URL)
    if not config.url:
        raise InvalidError("a source of the type forgejo has no url", todo="Give the server's.")
    return forgejo.Forgejo(config.url, secret)


def _epics(forge: Forge, config: ForgeConfig) -> Iterator[JobSource]:
    from core_infra.jobrunner.sources.epics import EpicSource  # noqa: PLC0415 - as above

    for repo in config.repos:
        owner, _, name = repo.partition("/")
        yield EpicSource(forge, owner, name, label=config.label, reports=config.report)


def _forge_handlers(forge: Forge, config: ForgeConfig, *, several: bool) -> Iterator[JobHandler]:
    from core_infra.jobrunner.handlers import forge as known  # noqa: PLC0415 - as above

    settle = known.ResolveThreads if config.type == "github" else known.DismissReviews
    kinds: dict[str, type[known.ForgeHandler]] = {
        "enable_auto_merge": known.EnableAutoMerge,
        "publish_draft": known.PublishDraft,
        "settle_reviews": settle,
        "send_fix_command": known.SendFixCommand,
        "tick_parent": known.TickParent,
        "completion": known.Completion,
    }
    for name in config.handlers:
        kind = kinds[name]
        yield kind(forge, name=f"{kind.NAME}@{forge.host}" if several else "")
