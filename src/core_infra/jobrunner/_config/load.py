"""Reads the configuration file of ``core-infra jobs``; reports all mistakes at once."""

from __future__ import annotations

from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core_infra._yaml.field import Field
from core_infra._yaml.reading import each, one_of, read_yaml
from core_infra.errors import InvalidError, NotFoundError
from core_infra.jobrunner._config import values
from core_infra.jobrunner._config.settings import (
    AppConfig,
    CommandConfig,
    DirectoryConfig,
    DispatchConfig,
    ForgeConfig,
    JobsConfig,
    fits,
)
from core_infra.jobrunner._handlers.merge_rules import METHODS, MergeRules
from core_infra.jobrunner._signal import PipelineSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._yaml.field import Fields
    from core_infra.jobrunner._config.settings import Wanted

T = TypeVar("T")

_FORGE_HANDLERS = (
    "enable_auto_merge",
    "publish_draft",
    "settle_reviews",
    "send_fix_command",
    "tick_parent",
    "completion",
    "agent_completion",
)


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
        poll_interval=fields.optional("poll_interval", values.seconds, default.poll_interval),
        poll_timeout=fields.optional("poll_timeout", values.seconds, default.poll_timeout),
        job_timeout=fields.optional("job_timeout", values.seconds, default.job_timeout),
        workers=fields.optional("workers", values.count, default.workers),
        attempts=fields.optional("attempts", values.count, default.attempts),
        dry_run=fields.optional("dry_run", values.flag, default.dry_run),
        dry_run_handlers=fields.optional("dry_run_handlers", each(Field.string), ()),
        journal_bodies=fields.optional("journal_bodies", values.flag, default.journal_bodies),
        database=fields.optional("database", values.private_string, default.database),
        webhook_secret_env=fields.optional("webhook_secret_env", values.private_string, ""),
        webhook_secret_file=fields.optional("webhook_secret_file", values.private_string, ""),
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
            name=fields.optional("name", values.name("source"), "directory"),
        )

    return read


def _forge(field: Field, kind: str, given: ForgeConfig) -> ForgeConfig:
    fields = field.fields([one.name for one in fields_of(ForgeConfig)])
    url = fields.required if kind == "forgejo" and not given.url else fields.optional
    token_env = fields.optional("token_env", values.private_string, "")
    token_file = fields.optional("token_file", values.private_string, "")
    app = fields.optional("app", _app, None)
    if not (token_env or token_file or app):
        token_env, token_file, app = given.token_env, given.token_file, given.app
    found = ForgeConfig(
        type=kind,
        repos=fields.required("repos", values.some(values.repo), ()),
        name=fields.optional("name", values.name("handler"), ""),
        url=url("url", values.url, given.url),
        token_env=token_env,
        token_file=token_file,
        app=app,
        exclude=fields.optional("exclude", each(values.repo), given.exclude),
        **_habits(fields, given),
    )
    return replace(found, overrides=fields.optional("overrides", _overrides(found), {}))


def _defaults(field: Field) -> ForgeConfig:
    """What holds for all forges that do not say otherwise."""
    names = ("url", "token_env", "token_file", "app", "exclude", *_HABITS)
    fields = field.fields(names)
    return ForgeConfig(
        "",
        url=fields.optional("url", values.url, ""),
        token_env=fields.optional("token_env", values.private_string, ""),
        token_file=fields.optional("token_file", values.private_string, ""),
        app=fields.optional("app", _app, None),
        exclude=fields.optional("exclude", each(values.repo), ()),
        **_habits(fields, ForgeConfig("")),
    )


def _overrides(given: ForgeConfig) -> Callable[[Field], dict[str, ForgeConfig]]:
    """What is different for some of the repositories."""

    def read_one(field: Field) -> ForgeConfig:
        return replace(given, **_habits(field.fields(_HABITS), given))

    def read(field: Field) -> dict[str, ForgeConfig]:
        entries = field.entries()
        for key, one in entries.items():
            if not values.REPO.fullmatch(key):
                one.fail(f"{key!r:.100} is not OWNER/NAME", "OWNER/NAME")
            if not any(fits(key, repo) for repo in given.repos):
                one.fail(f"{key!r:.100} is not among the repos", "one of the repos")
        return {key: one.take(read_one, given) for key, one in entries.items()}

    return read


_HABITS = ("label", "report", "handlers", "merge", "chain", "priority")


def _habits(fields: Fields, given: ForgeConfig) -> dict[str, Any]:
    return {
        "label": fields.optional("label", Field.string, given.label),
        "report": fields.optional("report", values.flag, default=given.report),
        "handlers": fields.optional("handlers", each(one_of(_FORGE_HANDLERS)), given.handlers),
        "merge": fields.optional("merge", _merge(given.merge), given.merge),
        "chain": fields.optional("chain", values.flag, default=given.chain),
        "priority": fields.optional("priority", values.integer, given.priority),
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
            found[name] = fields.optional(name, values.flag, default=getattr(given, name))
        found["approvals"] = fields.optional("approvals", values.number, given.approvals)
        found["method"] = fields.optional("method", one_of(METHODS), given.method)
        return MergeRules(**found)

    return read


def _app(field: Field) -> AppConfig:
    fields = field.fields(("id", "installation", "key_file"))
    return AppConfig(
        id=str(fields.required("id", Field.value, "")),
        installation=fields.required("installation", values.count, 1),
        key_file=fields.required("key_file", values.private_string, ""),
    )


def _handler(field: Field) -> DispatchConfig | CommandConfig:
    if _type(field, ("dispatch", "command")) == "dispatch":
        fields = field.fields(("type", "queue", "name", "chain", "agents", "target_branch"))
        return DispatchConfig(
            queue=fields.required("queue", Field.string, ""),
            name=fields.optional("name", values.name("handler"), "dispatch"),
            chain=fields.optional("chain", values.flag, default=False),
            agents=fields.optional("agents", each(Field.string), ()),
            target_branch=fields.optional("target_branch", Field.string, ""),
        )
    names = ("type", "name", "command", "when", "check", "timeout", "env", "chain")
    fields = field.fields(names)
    return CommandConfig(
        name=fields.required("name", values.name("handler"), ""),
        command=fields.required("command", values.some(values.private_string), ()),
        when=fields.required("when", _when, {}),
        check=fields.optional("check", each(values.private_string), ()),
        timeout=fields.optional("timeout", values.timeout, None),
        env=fields.optional("env", each(Field.string), ()),
        chain=fields.optional("chain", values.flag, default=False),
    )


def _type(field: Field, names: Sequence[str]) -> str:
    """The type of a source or a handler, which decides about its other fields."""
    return one_of(names)(field.entries().get("type") or field.missing("type"))


def _when(field: Field) -> dict[str, Wanted]:
    found = field.fields(tuple(PipelineSignal.__dataclass_fields__))
    read = {name: one.take(values.wanted, None) for name, one in found.items()}
    return {name: wanted for name, wanted in read.items() if wanted is not None}
