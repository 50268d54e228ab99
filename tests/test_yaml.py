"""The reader of YAML files: one grammar of mistakes for all, and no file that it fails on."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core_infra._yaml.document import Document
from core_infra._yaml.field import Field, Fields
from core_infra._yaml.reading import each, each_value, one_of, read_yaml, whole
from core_infra.build import load_config
from core_infra.errors import CoreInfraError, InvalidFileError
from core_infra.jobrunner._config.load import load_jobs_config
from core_infra.medium import MemoryMedium
from core_infra.process._runner.taskfile import load_tasks
from core_infra.vm._images.image_yaml import read_description
from core_infra.vm._images.linuxkit.templates import TemplateManager

if TYPE_CHECKING:
    from collections.abc import Callable

KERNEL = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\0" + bytes(600)


def tasks(data: bytes) -> object:
    medium = MemoryMedium()
    medium.write_bytes("FILE", data)
    return load_tasks(medium, "FILE")


def build(data: bytes) -> object:
    medium = MemoryMedium()
    medium.write_bytes(".core/build.yaml", data)
    return load_config(medium, ".", env={})


@cache
def directory() -> Path:
    path = Path(mkdtemp())
    (path / "vmlinuz").write_bytes(KERNEL)
    return path


def jobs(data: bytes) -> object:
    (directory() / "jobs.yaml").write_bytes(data)
    return load_jobs_config(str(directory() / "jobs.yaml"))


def image(data: bytes) -> object:
    (directory() / "image.yaml").write_bytes(data)
    return read_description(directory() / "image.yaml")


def linuxkit(data: bytes) -> object:
    medium = MemoryMedium()
    medium.write_bytes(".core/linuxkit/mine.yml", data)
    return TemplateManager(medium, home="nowhere").linuxkit_file("mine", {})


class Kind(NamedTuple):
    """A kind of file: a valid one, and mistakes each with its line, its field and what it is."""

    load: Callable[[bytes], object]
    valid: str
    unknown: tuple[str, int, str, str]
    wrong: tuple[str, int, str, str]
    missing: tuple[str, int, str, str] | None
    twice: tuple[str, int, str, int]


KINDS = {
    "tasks": Kind(
        tasks,
        "workers: 3\nvars: {A: b}\ntasks:\n  lint:\n    command: ruff ${A}\n    retries: 2\n"
        "    timeout: 1.5\n  test:\n    command: [pytest, -q]\n    after: [lint]\n"
        "    env: {A: 1, B: null}\nfinally:\n  stop: {shell: 'echo', grace: 0}\n",
        ("tasks:\n  lint:\n    comand: x\n", 3, "tasks.lint.comand", "command"),
        (
            "tasks:\n  a:\n    command: x\n    after: b\n",
            4,
            "tasks.a.after",
            "a list, found a string: 'b'",
        ),
        ("workers: 2\n", 1, "tasks", "a mapping"),
        ("tasks:\n  a: {command: x}\n  a: {command: y}\n", 3, "tasks.a", 2),
    ),
    "build": Kind(
        build,
        "version: 1\nproject: {name: a, main: cmd}\nbuild:\n  cgo: true\n  flags: [-v]\n"
        "targets:\n  - {os: linux, arch: arm64}\nsign:\n  gpg: {key: $KEY}\n",
        ("build:\n  flag: [-v]\n", 2, "build.flag", "flags"),
        (
            "build:\n  cgo: maybe\n",
            2,
            "build.cgo",
            "true or false, found a string: 'maybe'",
        ),
        (
            "targets:\n  - os: linux\n",
            2,
            "targets[0].arch",
            "the name of a platform, in small letters and digits",
        ),
        ("project: {name: a}\nversion: 1\nproject: {}\n", 3, "project", 1),
    ),
    "jobs": Kind(
        jobs,
        "poll_interval: 60\nworkers: 4\nsources:\n  - {type: directory, path: in}\n"
        "  - {type: github, repos: [a/b], token_env: TOKEN, handlers: [completion]}\nhandlers:\n"
        "  - {type: command, name: a, command: [x], when: {pr_state: [OPEN, MERGED]}}\n",
        ("sources: []\npol_interval: 5\n", 2, "pol_interval", "poll_interval"),
        (
            "workers: many\n",
            1,
            "workers",
            "a whole number of at least 1, found a string: 'many'",
        ),
        ("sources:\n  - type: directory\n", 2, "sources[0].path", "a string"),
        ("dry_run: true\nworkers: 2\ndry_run: false\n", 3, "dry_run", 1),
    ),
    "image": Kind(
        image,
        "kernel: vmlinuz\ncmdline: quiet\nmemory: 300\ncpus: 2\ncpu: max,cx16=off\narch: x86_64\n",
        ("kernel: vmlinuz\nmemry: 300\n", 2, "memry", "memory"),
        ("cmdline: [a]\n", 1, "cmdline", "a string, found a list"),
        None,
        ("kernel: vmlinuz\n\nkernel: vmlinuz\n", 3, "kernel", 1),
    ),
    "linuxkit": Kind(
        linuxkit,
        "kernel:\n  image: linuxkit/kernel:6.6\n  cmdline: quiet\ninit: [a, b]\nservices:\n"
        "  - name: a\n    image: b\n    binds.add: [/c:/d]\n    uid: 0\n    annotations: {a: b}\n"
        "files:\n  - {path: a, contents: '${A:-b}', mode: '0600'}\n",
        ("kernel:\n  imag: a\n", 2, "kernel.imag", "image"),
        ("init: {}\n", 1, "init", "a list, found a mapping"),
        ("services:\n  - name: a\n", 2, "services[0].image", "a string"),
        ("init: [a]\nkernel: {}\ninit: [b]\n", 3, "init", 1),
    ),
}


def mistakes(kind: Kind, text: str) -> list[str]:
    """The mistakes of a file, without its name."""
    with pytest.raises(InvalidFileError) as caught:
        kind.load(text.encode())
    error = caught.value
    file = error.mistakes[0].file
    assert {one.file for one in error.mistakes} == {file}
    shown = [str(one) for one in error.mistakes]
    many = "\n  ".join([f"{len(shown)} mistakes", *shown])
    assert str(error) == f"cannot use {error.path}: {shown[0] if len(shown) == 1 else many}"
    return [one.removeprefix(f"{file}:") for one in shown]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_grammar_for_all_files(kind: Kind) -> None:
    assert kind.load(kind.valid.encode())
    text, line, field, meant = kind.unknown
    unknown = f"{line}: {field}: unknown field; did you mean {meant!r}?"
    assert mistakes(kind, text) == [unknown]
    text, line, field, expected = kind.wrong
    assert mistakes(kind, text) == [f"{line}: {field}: expected {expected}"]
    if kind.missing is not None:
        text, line, field, expected = kind.missing
        [found] = mistakes(kind, text)
        assert found == f"{line}: {field}: missing field; expected {expected}"
    text, line, field, first = kind.twice
    assert mistakes(kind, text) == [
        f"{line}: {field}: duplicate field; it is first on line {first}"
    ]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_two_mistakes_are_reported_together(kind: Kind) -> None:
    lines = len(kind.twice[0].splitlines())
    found = mistakes(kind, f"{kind.twice[0]}nonsense: 1\n")
    assert found[0].startswith(f"{kind.twice[1]}: {kind.twice[2]}: duplicate field")
    assert found[1].startswith(f"{lines + 1}: nonsense: unknown field; expected one of ")
    assert len(found) == 2


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("- a\n", 1, "expected a mapping, found a list"),
        ("a\n", 1, "expected a mapping, found a string"),
        ("a: [\n", 1, "invalid YAML: "),
        ("a: b: c\n", 1, "invalid YAML: mapping values are not allowed here"),
        ("\n\na: *b\n", 3, "invalid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 1\n", 2, "invalid YAML: expected a single document in the stream"),
        ("a: 1\nb: \x07\n", 2, "invalid YAML: the character U+0007 is not allowed"),
        ('\na: "\\U00110000"\n', 2, "invalid YAML: a character or a number is out of range"),
        ("a:\n  " + "[" * 20_000, 2, "it is nested more than 32 levels deep"),
        ("? [a]\n: b\n", 1, "a key must be a string"),
    ],
)
def test_content_that_is_not_such_a_file(kind: Kind, text: str, line: int, message: str) -> None:
    assert any(one.startswith(f"{line}: {message}") for one in mistakes(kind, text))


@pytest.mark.parametrize("kind", [KINDS[name] for name in ("tasks", "build", "jobs", "image")])
def test_a_file_that_is_not_utf_8(kind: Kind) -> None:
    with pytest.raises(InvalidFileError, match=":2: the file is not text in UTF-8: byte 3 is"):
        kind.load(b"a:\n\xff")


BOMB = "\n".join(
    ["a0: &a0 {x: 1}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], b{n}: 1}}" for n in range(1, 20)]
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_aliases_and_merge_keys_do_not_multiply(kind: Kind) -> None:
    assert mistakes(kind, f"{BOMB}\n<<: *a19\n")
    lists = "\n".join(f"- &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 20))
    assert mistakes(kind, f"<<:\n- &b0 [x]\n{lists}\n")
    assert any("merged into itself" in one for one in mistakes(kind, "&a\n<<: *a\n"))


def test_what_aliases_repeat_is_limited() -> None:
    words = ", ".join(["x"] * 3000)
    text = f"a: &a [{words}]\n" + "\n".join(f"b{n}: *a" for n in range(3000))
    with pytest.raises(InvalidFileError, match="its aliases stand for too many values"):
        read_yaml(text.encode(), "FILE", each_value(each(Field.string)))


def test_lines_are_those_of_editors() -> None:
    text = "a: 1\r\nb: 2\rc: '\u2028\x85'\nd: 4\n"
    document = Document(text.encode(), "FILE")
    assert document.root is not None
    fields = Field(document, document.root, "").entries()
    assert [field.line for field in fields.values()] == [1, 2, 3, 4]


@pytest.mark.parametrize("text", [r'a: "x\0"', r'a: "\ud800"', r'"\ud800": x', r'"\0": x'])
def test_a_string_that_no_system_call_takes(text: str) -> None:
    for read in (Field.string, Field.text):
        with pytest.raises(InvalidFileError, match="string without NUL and surrogates"):
            read_yaml(text.encode(), "FILE", each_value(read))


def test_no_value_of_a_secret_is_shown() -> None:
    for kind, text in [
        ("build", "sign: {windows: {password: 31415}, gpg: {key: 31415}}"),
        ("build", "sign: {windows: 31415}"),
        ("jobs", "sources: [{type: github, repos: [a/b], token_env: 31415, token_file: 31415}]"),
        ("jobs", "sources: [{type: github, repos: [a/b], url: 'http://31415:@h'}]"),
        ("jobs", "handlers: [{type: command, name: a, when: {}, command: 31415, check: [31415]}]"),
        ("tasks", "env: 31415\nvars: 31415\ntasks: {a: {command: x, env: 31415}}"),
        ("linuxkit", "files: [{path: a, contents: 31415, directory: 31415}]"),
    ]:
        assert not [one for one in mistakes(KINDS[kind], text) if "31415" in one]


def test_at_most_50_mistakes_are_shown() -> None:
    text = "\n".join(f"a{n}: 1" for n in range(60))
    with pytest.raises(InvalidFileError) as caught:
        KINDS["jobs"].load(text.encode())
    assert len(caught.value.mistakes) == 60
    assert str(caught.value).endswith("\n  … and 10 more")


ALSO_RIGHT = "describes no image|cannot stand at its place|variables? (is|are) missing"


def valid_or_mistakes(load: Callable[[bytes], object], data: bytes) -> None:
    """Fails unless a file is read, or its mistakes are on lines that it has."""
    lines = len(re.findall(rb"\r\n?|\n", data)) + (not data.endswith((b"\r", b"\n")))
    try:
        load(data)
    except InvalidFileError as error:
        assert error.mistakes  # noqa: PT017 - either is right
        assert all(1 <= one.line <= max(1, lines) for one in error.mistakes)  # noqa: PT017
    except CoreInfraError as error:
        assert re.search(ALSO_RIGHT, str(error))  # noqa: PT017


MUTATIONS = st.text("{}[]:-&*!|>'\"#%@? \n\r\tax.0<\\\0\u2028", max_size=6)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_a_mutated_file_is_read_or_has_mistakes(kind: Kind, data: st.DataObject) -> None:
    text = kind.valid
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 20, len(text))))
        text = text[:start] + data.draw(MUTATIONS) + text[end:]
    valid_or_mistakes(kind.load, text.encode())


def everything(field: Field) -> object:
    """Reads a field in all ways that there are."""
    fields = field.take(lambda one: one.fields(("a", "x")), None)
    if isinstance(fields, Fields):
        fields.required("y", Field.string, "")
        fields.section("x", ("a",), private=True).optional("a", Field.flag, default=False)
    for read in (Field.string, Field.text, Field.text_line, Field.flag, Field.value, whole(1, 5)):
        field.take(read, None)
    field.take(one_of(("a", "b")), None)
    if len(re.findall(r"[.\[]", field.name)) > 9:  # a value may contain itself
        return None
    return field.take(each(everything), ()) or field.take(each_value(everything), {})


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode) | MUTATIONS.map(str.encode))
@example(b"\xef\xbb\xbfa: 1")
@example(b"!")
@example(b"!<")
@example(b"%YAML 9.9\n---\n")
@example(b"%YAML 1." + b"1" * 5000 + b"\n---\na: 1\n")
@example(b"--- !<tag:yaml.org,2002:null> {}")
@example(b"!!bool x")
@example(b"!!int ''")
@example(b"!!int [a]")
@example(b"!!map x")
@example(b"!!str {a: b}")
@example(b"!!float x")
@example(b"&a [*a]")
@example(b"&a {a: *a, <<: *a}")
@example(b'"\\ud800": "\\ud800"')
@example(b"<<: x\n<<: [{a: 1}, x]\n")
@example(b"= : <<")
@example(b"1:30")
@example(b"0b")
@example(b"2026-13-45")
@example(b"a:\n ? x\n\n")
def test_any_bytes_are_read_or_have_mistakes(data: bytes) -> None:
    valid_or_mistakes(lambda given: read_yaml(given, "FILE", everything), data)
