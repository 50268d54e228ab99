"""The configuration file of ``core-infra jobs``: its sources, handlers and limits."""

from __future__ import annotations

import dataclasses
import re
import threading
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from core_infra._yaml.field import Field
from core_infra._yaml.reading import each, one_of, read_yaml
from core_infra.errors import InvalidError, NotFoundError
from core_infra.jobrunner._forges.endpoint import checked_address
from core_infra.jobrunner._handlers.merge_rules import METHODS, MergeRules
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._signal import PipelineSignal, why_impossible
from core_infra.jobrunner._validation import usable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from core_infra._yaml.field import Fields

T = TypeVar("T")

_REPO = re.compile(r"[^/\s]+/[^/\s]+")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}
_FORGE_HANDLERS = (
    "enable_auto_merge",
    "publish_draft",
    "settle_reviews",
    "send_fix_command",
    "tick_parent",
    "completion",
)

Wanted: TypeAlias = bool | int | str | list[bool | int | str]


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
    overrides: Mapping[str, ForgeConfig] = dataclasses.field(default_factory=dict)


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


def load_jobs_config(path: str) -> JobsConfig:
    """Read a configuration file.

    Raises:
        NotFoundError: it does not exist.
        InvalidFileError: it has mistakes; carries all of them with their places.
        InvalidError: it cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {path}",
            todo="Write one (docs/jobrunner.md shows how), or name another with --config.",
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidError(f"cannot read {path}", why=why) from None
    return read_yaml(data, path, _config)


def _config(top: Field) -> JobsConfig:
    if top.kind == "null":
        return JobsConfig()
    fields = top.fields([*(one.name for one in fields_of(JobsConfig)), "defaults"])
    default = JobsConfig()
    given = fields.optional("defaults", _defaults, ForgeConfig(""))
    return JobsConfig(
        journal=fields.optional("journal", Field.string, default.journal),
        poll_interval=fields.optional("poll_interval", _seconds, default.poll_interval),
        poll_timeout=fields.optional("poll_timeout", _seconds, default.poll_timeout),
        job_timeout=fields.optional("job_timeout", _seconds, default.job_timeout),
        workers=fields.optional("workers", _count, default.workers),
        attempts=fields.optional("attempts", _count, default.attempts),
        dry_run=fields.optional("dry_run", _flag, default.dry_run),
        dry_run_handlers=fields.optional("dry_run_handlers", each(Field.string), ()),
        journal_bodies=fields.optional("journal_bodies", _flag, default.journal_bodies),
        database=fields.optional("database", _private_string, default.database),
        webhook_secret_env=fields.optional("webhook_secret_env", _private_string, ""),
        webhook_secret_file=fields.optional("webhook_secret_file", _private_string, ""),
        sources=fields.optional("sources", each(_source(given)), ()),
        handlers=fields.optional("handlers", each(_handler), ()),
    )


def _source(given: ForgeConfig) -> Callable[[Field], DirectoryConfig | ForgeConfig]:
    def read(field: Field) -> DirectoryConfig | ForgeConfig:
        kind = _type(field, ("directory", "github", "forgejo"))
        if kind != "directory":
            return _forge(field, kind, given)
        fields = field.fields(("type", "path", "name"))
        return DirectoryConfig(
            path=fields.required("path", Field.string, ""),
            name=fields.optional("name", _name("source"), "directory"),
        )

    return read


def _forge(field: Field, kind: str, given: ForgeConfig) -> ForgeConfig:
    fields = field.fields([one.name for one in fields_of(ForgeConfig)])
    url = fields.required if kind == "forgejo" and not given.url else fields.optional
    token_env = fields.optional("token_env", _private_string, "")
    token_file = fields.optional("token_file", _private_string, "")
    app = fields.optional("app", _app, None)
    if not (token_env or token_file or app):
        token_env, token_file, app = given.token_env, given.token_file, given.app
    found = ForgeConfig(
        type=kind,
        repos=fields.required("repos", _some(_repo), ()),
        name=fields.optional("name", _name("handler"), ""),
        url=url("url", _url, given.url),
        token_env=token_env,
        token_file=token_file,
        app=app,
        exclude=fields.optional("exclude", each(_repo), given.exclude),
        **_habits(fields, given),
    )
    return replace(found, overrides=fields.optional("overrides", _overrides(found), {}))


def _defaults(field: Field) -> ForgeConfig:
    """What holds for all forges that do not say otherwise."""
    names = ("url", "token_env", "token_file", "app", "exclude", *_HABITS)
    fields = field.fields(names)
    return ForgeConfig(
        "",
        url=fields.optional("url", _url, ""),
        token_env=fields.optional("token_env", _private_string, ""),
        token_file=fields.optional("token_file", _private_string, ""),
        app=fields.optional("app", _app, None),
        exclude=fields.optional("exclude", each(_repo), ()),
        **_habits(fields, ForgeConfig("")),
    )


def _overrides(given: ForgeConfig) -> Callable[[Field], dict[str, ForgeConfig]]:
    """What is different for some of the repositories."""

    def read_one(field: Field) -> ForgeConfig:
        return replace(given, **_habits(field.fields(_HABITS), given))

    def read(field: Field) -> dict[str, ForgeConfig]:
        entries = field.entries()
        for key, one in entries.items():
            if not _REPO.fullmatch(key):
                one.fail(f"{key!r:.100} is not OWNER/NAME", "OWNER/NAME")
        return {key: one.take(read_one, given) for key, one in entries.items()}

    return read


_HABITS = ("label", "report", "handlers", "merge", "chain")


def _habits(fields: Fields, given: ForgeConfig) -> dict[str, Any]:
    return {
        "label": fields.optional("label", Field.string, given.label),
        "report": fields.optional("report", _flag, default=given.report),
        "handlers": fields.optional("handlers", each(one_of(_FORGE_HANDLERS)), given.handlers),
        "merge": fields.optional("merge", _merge(given.merge), given.merge),
        "chain": fields.optional("chain", _flag, default=given.chain),
    }


def _merge(given: MergeRules) -> Callable[[Field], MergeRules]:
    """The conditions of a merge; what is left out is as given."""

    def read(field: Field) -> MergeRules:
        fields = field.fields([one.name for one in fields_of(MergeRules)])
        lists = ("checks", "base", "authors", "labels", "without_labels")
        flags = ("no_checks", "forks", "update")
        found: dict[str, Any] = {
            name: fields.optional(name, each(Field.string), getattr(given, name)) for name in lists
        }
        for name in flags:
            found[name] = fields.optional(name, _flag, default=getattr(given, name))
        found["approvals"] = fields.optional("approvals", _number, given.approvals)
        found["method"] = fields.optional("method", one_of(METHODS), given.method)
        return MergeRules(**found)

    return read


def _app(field: Field) -> AppConfig:
    fields = field.fields(("id", "installation", "key_file"))
    return AppConfig(
        id=str(fields.required("id", Field.value, "")),
        installation=fields.required("installation", _count, 1),
        key_file=fields.required("key_file", _private_string, ""),
    )


def _number(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int) or value < 0:
        field.reject("a whole number")
    return value


def _handler(field: Field) -> DispatchConfig | CommandConfig:
    if _type(field, ("dispatch", "command")) == "dispatch":
        fields = field.fields(("type", "queue", "name", "chain", "agents", "target_branch"))
        return DispatchConfig(
            queue=fields.required("queue", Field.string, ""),
            name=fields.optional("name", _name("handler"), "dispatch"),
            chain=fields.optional("chain", _flag, default=False),
            agents=fields.optional("agents", each(Field.string), ()),
            target_branch=fields.optional("target_branch", Field.string, ""),
        )
    names = ("type", "name", "command", "when", "check", "timeout", "env", "chain")
    fields = field.fields(names)
    return CommandConfig(
        name=fields.required("name", _name("handler"), ""),
        command=fields.required("command", _some(_private_string), ()),
        when=fields.required("when", _when, {}),
        check=fields.optional("check", each(_private_string), ()),
        timeout=fields.optional("timeout", _timeout, None),
        env=fields.optional("env", each(Field.string), ()),
        chain=fields.optional("chain", _flag, default=False),
    )


def _type(field: Field, names: Sequence[str]) -> str:
    """The type of a source or a handler, which decides about its other fields."""
    return one_of(names)(field.entries().get("type") or field.missing("type"))


def _name(what: str) -> Callable[[Field], str]:
    def read(field: Field) -> str:
        try:
            return usable_name(field.string(), what)
        except InvalidError as error:
            field.fail(describe_error(error))

    return read


def _when(field: Field) -> dict[str, Wanted]:
    found = field.fields(tuple(PipelineSignal.__dataclass_fields__))
    read = {name: one.take(_wanted, None) for name, one in found.items()}
    return {name: wanted for name, wanted in read.items() if wanted is not None}


def _wanted(field: Field) -> Wanted:
    """A value that a field of a signal can have, or a list of some."""

    def read(one: Field) -> bool | int | str:
        value = one.value()
        if value is None or isinstance(value, float):
            one.reject("a string, a whole number, true or false")
        problem = why_impossible(field.key, value)
        if problem:
            one.reject(problem.removeprefix("Input should be "))
        return value

    if field.kind != "seq":
        return read(field)
    if not field.items():
        field.fail("the list is empty; expected at least one value", "at least one value")
    return [*each(read)(field)]


def _some(read: Callable[[Field], T]) -> Callable[[Field], tuple[T, ...]]:
    """Reads a list that has at least one value. Errors do not show a value that is not a list."""

    def read_all(field: Field) -> tuple[T, ...]:
        private = field.private()
        if private.kind == "seq" and not private.items():
            field.fail("the list is empty; expected at least one value", "at least one value")
        return each(read)(private)

    return read_all


def _private_string(field: Field) -> str:
    return field.private().string()


def _repo(field: Field) -> str:
    name = field.string("OWNER/NAME")
    if not _REPO.fullmatch(name):
        field.reject("OWNER/NAME")
    return name


def _url(field: Field) -> str:
    url = field.private().string("an address such as https://git.example.org")
    try:
        return checked_address(url)
    except InvalidError as error:
        field.fail(describe_error(error))


def _flag(field: Field) -> bool:
    found = _FLAGS.get(field.scalar.lower()) if field.kind in {"bool", "int", "str"} else None
    if found is None:
        field.reject("true or false")
    return found


def _count(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int) or value < 1:
        field.reject("a whole number of at least 1")
    return value


def _seconds(field: Field) -> float:
    value = field.value() if field.kind in {"int", "float"} else None
    if not isinstance(value, int | float) or not 0 < value <= threading.TIMEOUT_MAX:
        field.reject(f"a number of seconds above 0 and at most {threading.TIMEOUT_MAX:.0f}")
    return float(value)


def _timeout(field: Field) -> float | None:
    return None if field.kind == "null" else _seconds(field)
