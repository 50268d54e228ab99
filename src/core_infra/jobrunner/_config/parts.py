"""Makes the sources and handlers that a configuration file names."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, cast

from core_infra.jobrunner._config.check import check_sources
from core_infra.jobrunner._config.settings import DirectoryConfig, DispatchConfig, ForgeConfig, fits
from core_infra.jobrunner._handlers import command, dispatch
from core_infra.jobrunner._journal.journal import Journal
from core_infra.jobrunner._sources.directory import DirectorySource
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from core_infra.jobrunner._config.check import Finding
    from core_infra.jobrunner._config.settings import CommandConfig, JobsConfig
    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._forges.forgejo import Forgejo
    from core_infra.jobrunner._forges.github import GitHub
    from core_infra.jobrunner._interfaces import JobHandler, JobSource
    from core_infra.jobrunner._sources.epics import EpicSource


def make_parts(config: JobsConfig) -> tuple[list[JobSource], list[JobHandler]]:
    """Make the sources and handlers that a configuration file names.

    Handlers are in the order of the file: first those under ``handlers``, which see the signals of
    all sources, then those of each forge, which see only its own. Names such as ``acme/*`` are
    looked up on the forge now.

    Raises:
        CoreInfraError: one of them cannot be made.
    """
    forges = [one for one in config.sources if isinstance(one, ForgeConfig)]
    secrets = [*(one.token_env for one in forges), config.database]
    sources: list[JobSource] = []
    handlers: list[JobHandler] = [_handler(one, secrets) for one in config.handlers]
    clients = _Clients(forges)
    names = _names(forges, clients)
    taken: set[str] = set()
    directories = frozenset(one.name for one in config.sources if isinstance(one, DirectoryConfig))
    for one in config.sources:
        if isinstance(one, DirectoryConfig):
            sources.append(DirectorySource(LocalMedium(), one.path, name=one.name))
            continue
        parts = _ForgeParts(one, clients.of(one), names.get(id(one), ""), directories)
        sources += parts.sources(taken)
        handlers += parts.handlers()
    return sources, handlers


def close_parts(sources: Iterable[JobSource]) -> None:
    """Close the connections of sources and of the handlers that were made with them."""
    for one in sources:
        close = getattr(one, "close", None)
        if close is not None:
            close()


def has_patterns(config: JobsConfig) -> bool:
    """Whether repositories are looked up on a forge, so that later there may be others."""
    forges = [one for one in config.sources if isinstance(one, ForgeConfig)]
    return any(set("*?[") & set(repo) for one in forges for repo in one.repos)


def open_journal(config: JobsConfig) -> Journal:
    """The journal of a configuration, with what other hosts have written.

    Raises:
        StorageError: it cannot be read.
        UnavailableError: several hosts share it, and psycopg is missing.
    """
    if not config.database:
        return Journal(config.journal)
    from core_infra.jobrunner._forges.endpoint import Token  # noqa: PLC0415 - rarely needed
    from core_infra.jobrunner._journal.shared import SharedJournal  # noqa: PLC0415 - an extra

    journal = SharedJournal(config.journal, Token(env=config.database))
    journal.pull()
    return journal


def check_parts(config: JobsConfig) -> Iterator[Finding]:
    """Look at each repository that a configuration names, and change nothing.

    Raises:
        CoreInfraError: a source or a handler cannot be made.
    """
    sources, handlers = make_parts(config)
    epics = [one for one in sources if not isinstance(one, DirectorySource)]
    try:
        yield from check_sources(cast("list[EpicSource]", epics), handlers)
    finally:
        close_parts(sources)


def _handler(config: DispatchConfig | CommandConfig, secrets: Collection[str]) -> JobHandler:
    if isinstance(config, DispatchConfig):
        made: JobHandler = dispatch.Dispatch(
            LocalMedium(),
            config.queue,
            name=config.name,
            chain=config.chain,
            agents=config.agents,
            target_branch=config.target_branch,
        )
        return made
    make: Callable[..., JobHandler] = command.CommandHandler
    if config.check:
        make = partial(command.CheckedCommandHandler, check=config.check)
    return make(
        config.name,
        config.command,
        when=config.when,
        timeout=config.timeout,
        keep_env=config.env,
        drop_env=secrets,
        chain=config.chain,
    )


class _Clients:
    """One client for each forge and token: its connections, cache and limits are shared."""

    def __init__(self, configs: Sequence[ForgeConfig]) -> None:
        # Imported only if the file has a forge: the clients need the extra "jobs".
        self._made: dict[object, GitHub | Forgejo] = {}
        addresses: dict[str, set[str]] = {}
        for config in configs:
            client = self._make(config, "")
            addresses.setdefault(client.host, set()).add(client.site)
            client.close()
        self._shared = {host for host, sites in addresses.items() if len(sites) > 1}
        """Hosts with several forges: signals have their whole address."""

    def of(self, config: ForgeConfig) -> GitHub | Forgejo:
        """The client of a source."""
        key = (config.type, config.url, config.token_env, config.token_file, config.app)
        if key not in self._made:
            client = self._make(config, "")
            if client.host in self._shared:
                client = self._make(config, client.site)
            self._made[key] = client
        return self._made[key]

    def _make(self, config: ForgeConfig, host: str) -> GitHub | Forgejo:
        from core_infra.jobrunner._forges import (  # noqa: PLC0415 - an extra
            endpoint,
            forgejo,
            github,
        )

        url = config.url or github.URL
        secret: Secret | None = None
        if config.app is not None:
            from core_infra.jobrunner._forges.app_token import AppToken  # noqa: PLC0415 - an extra

            app = config.app
            secret = AppToken(app.id, app.installation, app.key_file, url)
        elif config.token_env or config.token_file:
            secret = endpoint.Token(env=config.token_env, file=config.token_file)
        if config.type == "github":
            return github.GitHub(secret, url, host=host)
        return forgejo.Forgejo(config.url, secret, host=host)


def _names(configs: Sequence[ForgeConfig], clients: _Clients) -> dict[int, str]:
    """What follows "@" in the names of a forge's handlers: its host, if there are several forges.

    If two of one host have the same handler: also the owner or the label, else a number.
    """
    if len(configs) < 2:  # noqa: PLR2004 - several
        return {id(one): one.name for one in configs}
    hosts = {id(one): one.name or clients.of(one).host.replace("/", ":") for one in configs}
    kinds = Counter((hosts[id(one)], kind) for one in configs for kind in set(one.handlers))
    twins = {host for (host, _), times in kinds.items() if times > 1}
    names = dict(hosts)
    for host in twins:
        some = [one for one in configs if hosts[id(one)] == host]
        numbers = [str(number) for number in range(1, len(some) + 1)]
        for parts in ([*map(_owners, some)], [*map(_label, some)], numbers):
            if len(set(parts)) == len(some):
                names |= {id(one): f"{host}:{what}" for one, what in zip(some, parts, strict=True)}
                break
    return names


def _owners(config: ForgeConfig) -> str:
    return "+".join(sorted({repo.partition("/")[0] for repo in config.repos}))


def _label(config: ForgeConfig) -> str:
    return config.label.replace("/", ":")


class _ForgeParts:
    """The sources and handlers of one entry of the file."""

    def __init__(
        self,
        config: ForgeConfig,
        forge: GitHub | Forgejo,
        name: str,
        directories: frozenset[str],
    ) -> None:
        self._directories = directories
        self._config = config
        self._forge = forge
        self._name = name
        self._repos = list(dict.fromkeys(_repositories(config, forge)))
        self._by_repo: dict[str, str] = {}
        """The name of the source of each repository."""

    def sources(self, taken: set[str]) -> Iterator[JobSource]:
        """A source for each repository; *taken* are the names that are in use."""
        from core_infra.jobrunner._forges.forge import Repo  # noqa: PLC0415 - an extra
        from core_infra.jobrunner._sources.epics import EpicSource  # noqa: PLC0415 - as above

        every = [Repo(*repo.split("/")) for repo in self._repos]
        for repo in every:
            full = "/".join(repo)
            settings = self._config.of(full)
            name = f"{self._config.name or self._forge.host}:{full}"
            if name in taken:
                name = f"{name}:{settings.label}"
            taken.add(name)
            self._by_repo[full] = name
            yield EpicSource(
                self._forge,
                *repo,
                label=settings.label,
                reports=settings.report,
                name=name,
                repos=every,
                priority=settings.priority,
            )

    def handlers(self) -> Iterator[JobHandler]:
        """The handlers of all repositories together, and those of each with overrides."""
        special = [repo for repo in self._repos if self._config.of(repo) is not self._config]
        common = [self._by_repo[repo] for repo in self._repos if repo not in special]
        yield from self._of(self._config, self._name, common)
        for repo in special:
            name = ":".join(filter(None, (self._name, repo.replace("/", ":"))))
            yield from self._of(self._config.of(repo), name, [self._by_repo[repo]])

    def _of(self, config: ForgeConfig, name: str, sources: Collection[str]) -> Iterator[JobHandler]:
        from core_infra.jobrunner._forges.forge import Repo  # noqa: PLC0415 - an extra
        from core_infra.jobrunner._handlers import forge as known  # noqa: PLC0415 - as above

        settle = known.ResolveThreads if config.type == "github" else known.DismissReviews
        kinds: dict[str, type[known.ForgeHandler]] = {
            "publish_draft": known.PublishDraft,
            "settle_reviews": settle,
            "send_fix_command": known.SendFixCommand,
            "tick_parent": known.TickParent,
            "completion": known.Completion,
            "enable_auto_merge": known.EnableAutoMerge,
            "agent_completion": known.AgentCompletion,
        }
        for one in config.handlers:
            made: known.ForgeHandler
            kind = kinds[one]
            full = f"{kind.NAME}@{name}" if name else ""
            seen = frozenset(sources)
            if one == "enable_auto_merge":
                made = known.EnableAutoMerge(self._forge, config.merge, name=full)
            elif one == "agent_completion":
                repos = [repo for repo in self._repos if self._by_repo[repo] in seen]
                named = [Repo(*repo.split("/")) for repo in repos]
                made = known.AgentCompletion(self._forge, repos=named, name=full)
                seen |= self._directories  # agents report there
            else:
                made = kind(self._forge, name=full)
            made.sources = seen
            made.chain = config.chain
            yield made


def _repositories(config: ForgeConfig, forge: GitHub | Forgejo) -> Iterator[str]:
    for wanted in config.repos:
        owner, _, pattern = wanted.partition("/")
        if not set("*?[") & set(pattern):
            yield wanted
            continue
        for name in forge.repositories(owner):
            full = f"{owner}/{name}"
            if fits(full, wanted) and not any(fits(full, one) for one in config.exclude):
                yield full
