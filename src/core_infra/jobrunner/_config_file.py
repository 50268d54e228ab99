"""The file that says which sources and handlers ``core-infra jobs`` has."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, Literal, NamedTuple, ParamSpec, Self

import click
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from core_infra.errors import InvalidError, NotFoundError
from core_infra.jobrunner._forges.endpoint import checked
from core_infra.jobrunner._handler_calls import told

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

Seconds = Annotated[float, Field(gt=0, le=threading.TIMEOUT_MAX, strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, strict=True)]
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

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        try:
            return checked(url)
        except InvalidError as error:
            raise ValueError(told(error)) from None

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if self.type == "forgejo" and not self.url:
            raise ValueError("a source of the type forgejo has no url")
        return self


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
    timeout: Seconds | None = None


class JobsConfig(_Model):
    """The whole file."""

    journal: str = ".core/journal"
    poll_interval: Seconds = 60.0
    poll_timeout: Seconds = 60.0
    job_timeout: Seconds = 600.0
    workers: Count = 16
    attempts: Count = 10
    dry_run: bool = False
    dry_run_handlers: list[str] = []
    sources: list[Annotated[DirectoryConfig | ForgeConfig, Field(discriminator="type")]] = []
    handlers: list[Annotated[DispatchConfig | CommandConfig, Field(discriminator="type")]] = []


class Choice(NamedTuple):
    """What the options of the command line say about the file.

    Attributes:
        path: the file.
        journal: a journal's directory, instead of the one of the file.
    """

    path: str
    journal: str | None

    def load(self) -> JobsConfig:
        """Read the file; raises as :func:`load` does."""
        if self.journal is None:
            return load(self.path)
        if not Path(self.path).exists():
            return JobsConfig(journal=self.journal)  # enough to look at a journal
        return load(self.path).model_copy(update={"journal": self.journal})


def pass_config(call: Callable[Concatenate[JobsConfig, P], None]) -> Callable[P, None]:
    """Give a command the file. It is read when the command runs: its help needs none."""

    @click.pass_obj
    def with_config(choice: Choice, /, *args: P.args, **kwargs: P.kwargs) -> None:
        call(choice.load(), *args, **kwargs)

    return functools.update_wrapper(with_config, call)


def load(path: str) -> JobsConfig:
    """Read the file.

    Raises:
        NotFoundError: it is not there.
        InvalidError: it is not YAML, or not what it must be.
    """
    found = _read(path)
    if found is None:
        return JobsConfig()
    if not isinstance(found, dict):
        raise InvalidError(
            f"cannot use {path}",
            why=f"it is a {type(found).__name__}",
            todo="It must be a mapping with sources: and handlers:.",
        )
    try:
        return JobsConfig.model_validate(found)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False)
        )
    # Not while the other error is handled: it has the values, and there may be secrets in them.
    raise InvalidError(f"cannot use {path}", why=problems)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, instead of forgetting what the first one said."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - as its base has it
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    problem = f"{key.value} is there twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                keys.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: str) -> object:
    try:
        loader = _Loader(Path(path).read_bytes())
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no {path}",
            todo="Write one (docs/jobrunner.md shows how), or name another with --config.",
        ) from None
    except yaml.MarkedYAMLError as error:
        # Without the lines themselves, which its text has: there may be secrets in them.
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = f"{where}{error.problem}"
    except RecursionError:
        why = "it is nested too deeply"
    except (yaml.YAMLError, ValueError) as error:  # as of a date that does not exist
        why = " ".join(str(error).split())
    except OSError as error:
        why = error.strerror or str(error)
    raise InvalidError(f"cannot read {path}", why=why)
