"""The JSON Schemas and the readers agree: on fields, on the documentation's files, on mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from core_infra._cli.main import main
from core_infra._cli.schema import NAMES
from core_infra.build import load_config
from core_infra.errors import CoreInfraError
from core_infra.jobrunner._config.load import load_jobs_config
from core_infra.medium import MemoryMedium
from core_infra.process import load_tasks
from core_infra.vm import load_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Place = tuple[Any, ...]
ROOT = Path(__file__).parents[1]


def schema(name: str) -> dict[str, Any]:
    found = json.loads(CliRunner().invoke(main, ["schema", name]).output)
    jsonschema.Draft202012Validator.check_schema(found)
    assert isinstance(found, dict)
    return found


def read_build(text: str, place: Path) -> object:
    del place
    medium = MemoryMedium()
    medium.write_text(".core/build.yaml", text)
    return load_config(medium, ".", env={})


def read_tasks(text: str, place: Path) -> object:
    del place
    medium = MemoryMedium()
    medium.write_text("tasks.yml", text)
    return load_tasks(medium, "tasks.yml")


def read_jobs(text: str, place: Path) -> object:
    path = place / "jobs.yaml"
    path.write_text(text)
    return load_jobs_config(str(path))


def read_image(text: str, place: Path) -> object:
    path = place / "image.yaml"
    path.write_text(text)
    return load_image(path)


READERS: dict[str, Callable[[str, Path], object]] = {
    "build": read_build,
    "image": read_image,
    "jobs": read_jobs,
    "tasks": read_tasks,
}


def objects(part: Any, whole: dict[str, Any], path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield the path of each object with named fields, and its part of the schema."""
    if "$ref" in part:
        target: Any = whole
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    for choice in part.get("oneOf", []):
        if "properties" in choice:
            yield from objects(choice, whole, path)
    if part.get("additionalProperties") is False:
        yield path, part
    for name, one in part.get("properties", {}).items():
        yield from objects(one, whole, (*path, name))
    if isinstance(part.get("items"), dict):
        yield from objects(part["items"], whole, (*path, 0))
    if isinstance(part.get("additionalProperties"), dict):
        yield from objects(part["additionalProperties"], whole, (*path, "a/b"))


def document(path: Place, part: dict[str, Any], field: str) -> Any:
    """A document with that field at a place; with what decides there about the other fields."""
    kind = part["properties"].get("type", {})
    chosen = kind.get("const") or (kind.get("enum") or [None])[0]
    value: Any = {field: 1, **({"type": chosen} if isinstance(chosen, str) else {})}
    for index, step in reversed(list(enumerate(path))):
        value = [value] if step == 0 else {step: value}
        if path[:index] == ("sources", 0):
            value |= {"type": "github", "repos": ["a/b"]}
    return value


def mistakes(name: str, content: Any, place: Path) -> str:
    try:
        READERS[name](yaml.safe_dump(content), place)
    except CoreInfraError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_each_field_of_a_schema_is_known_and_no_other_is(name: str, tmp_path: Path) -> None:
    whole = schema(name)
    places = list(objects(whole, whole))
    assert places
    for path, part in places:
        for field in part["properties"]:
            said = mistakes(name, document(path, part, field), tmp_path)
            assert f"{field}: unknown field" not in said, (path, said)
        said = mistakes(name, document(path, part, "qqqqqqqqqqqq"), tmp_path)
        assert "qqqqqqqqqqqq: unknown field" in said, path
        known = said.partition("qqqqqqqqqqqq: unknown field; expected one of ")[2].partition("\n")[
            0
        ]
        assert known == ", ".join(sorted(part["properties"])), (path, said)


def problems(name: str, text: str) -> list[str]:
    found = jsonschema.Draft202012Validator(schema(name)).iter_errors(yaml.safe_load(text))
    return [f"{one.json_path}: {one.message}" for one in found]


def yaml_of(page: str) -> Iterator[str]:
    text = (ROOT / "docs" / page).read_text()
    yield from re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tasks", (ROOT / "examples/tasks.yml").read_text()),
        *(("jobs", text) for text in yaml_of("jobrunner.md") if "sources:" in text),
        *(("build", text) for text in yaml_of("build.md") if text.startswith("version:")),
        *(("tasks", text) for text in yaml_of("runner.md") if "tasks:" in text),
        *(("image", text) for text in yaml_of("images.md") if text.startswith("kernel:")),
    ],
)
def test_files_of_the_documentation_are_valid(name: str, text: str) -> None:
    assert problems(name, text) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tasks", "tasks: {a: {}}"),
        ("tasks", "tasks: {a: {command: x, shell: y}}"),
        ("tasks", "tasks: {a: {command: []}}"),
        ("tasks", "tasks: {a: {command: x, retries: -1}}"),
        ("tasks", "tasks: {a: {command: x, timeout: 0}}"),
        ("tasks", "workers: 0\ntasks: {}"),
        ("jobs", "sources: [{type: github, repos: []}]"),
        ("jobs", "sources: [{type: gitlab, repos: [a/b]}]"),
        ("jobs", "handlers: [{type: command, name: x, when: {}}]"),
        ("jobs", "handlers: [{type: dispatch}]"),
        ("jobs", "workers: 0"),
        ("build", "version: 2"),
        ("build", "project: {name: no}"),
        ("build", "targets: [{os: linux}]"),
        ("build", "build: {cgo: 1}"),
        ("image", "memory: 0"),
        ("image", "arch: mips"),
    ],
)
def test_what_a_reader_refuses_the_schema_refuses(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(CoreInfraError):
        READERS[name](text, tmp_path)
    assert problems(name, text)
