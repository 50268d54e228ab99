"""Makes the sources and handlers that a configuration file names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.jobrunner._config_file import DirectoryConfig, DispatchConfig, ForgeConfig
from core_infra.jobrunner._handlers import command, dispatch
from core_infra.jobrunner._sources.directory import DirectorySource
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner._config_file import CommandConfig, JobsConfig
    from core_infra.jobrunner._forges.endpoint import Token
    from core_infra.jobrunner._forges.forge import Forge
    from core_infra.jobrunner._interfaces import JobHandler, JobSource


def make_parts(config: JobsConfig) -> tuple[list[JobSource], list[JobHandler]]:
    """Make the sources and handlers that a configuration file names.

    Handlers are in the order of the file: first those under ``handlers``, then those of each forge.

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
    # Imported only if the file has a forge: the clients need the extra "jobs".
    from core_infra.jobrunner._forges import endpoint, forgejo, github  # noqa: PLC0415 - an extra

    secret: Token | None = None
    if config.token_env or config.token_file:
        secret = endpoint.Token(env=config.token_env, file=config.token_file)
    if config.type == "github":
        return github.GitHub(secret, config.url or github.URL)
    return forgejo.Forgejo(config.url, secret)


def _epics(forge: Forge, config: ForgeConfig) -> Iterator[JobSource]:
    from core_infra.jobrunner._sources.epics import EpicSource  # noqa: PLC0415 - as above

    for repo in config.repos:
        owner, _, name = repo.partition("/")
        yield EpicSource(forge, owner, name, label=config.label, reports=config.report)


def _forge_handlers(forge: Forge, config: ForgeConfig, *, several: bool) -> Iterator[JobHandler]:
    from core_infra.jobrunner._handlers import forge as known  # noqa: PLC0415 - as above

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
