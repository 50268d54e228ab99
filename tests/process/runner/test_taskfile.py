"""Task files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import NotFoundError
from core_infra.medium.memory import MemoryMedium
from core_infra.process.runner.spec import RunSpec
from core_infra.process.runner.taskfile import TaskFile, TaskFileError, load_tasks

if TYPE_CHECKING:
    from core_infra.process.service import Service


def load(text: str, path: str = "tasks.yml") -> TaskFile:
    medium = MemoryMedium()
    medium.write_text(path, text)
    return load_tasks(medium, path)


def wrong(text: str) -> list[tuple[int, str]]:
    with pytest.raises(TaskFileError) as caught:
        load(text)
    mistakes: list[tuple[int, str]] = caught.value.mistakes
    for line, mistake in mistakes:
        assert f"tasks.yml:{line}: {mistake}" in str(caught.value)
    return mistakes


def test_all_that_a_file_may_say() -> None:
    text = """
        workers: 3
        pools:
          database: 2
        tasks:
          lint:
            command: ruff check 'my src' --flag="a b"
          test:
            command: [pytest, -q, 1.10, no]
            args: [--durations, 5]
            dir: sub
            env: {PORT: 8080, VERSION: 1.10, DEBUG: no, EMPTY: "", GONE: null}
            after: [lint]
            allow_failure: true
            retries: 2
            timeout: 1.5
            pools: [database]
            stop_signal: INT
            grace: 30
            description: All of them
          script:
            shell: |
              echo one | cat
              echo two
    """
    tasks = load(text, "some/tasks.yml")
    assert (tasks.workers, tasks.pools) == (3, {"database": 2})
    assert tasks.specs == (
        RunSpec("lint", "ruff", ["check", "my src", "--flag=a b"], dir="some/"),
        RunSpec(
            "test",
            "pytest",
            ["-q", "1.10", "no", "--durations", "5"],
            dir="some/sub",
            env={"PORT": "8080", "VERSION": "1.10", "DEBUG": "no", "EMPTY": "", "GONE": None},
            after=["lint"],
            allow_failure=True,
            retries=2,
            timeout=1.5,
            pools=["database"],
            stop_signal=signal.SIGINT,
            grace=30,
            description="All of them",
        ),
        RunSpec("script", "/bin/sh", ["-euc", "echo one | cat\necho two\n"], dir="some/"),
    )


def test_tasks_that_clean_up() -> None:
    text = "tasks: {a: {command: x}}\nfinally:\n  b: {command: y}\n  c: {command: z, after: [b]}"
    tasks = load(text)
    assert [spec.name for spec in tasks.specs] == ["a"]
    assert [spec.name for spec in tasks.cleanup] == ["b", "c"]


def test_anchors_and_merge_keys() -> None:
    text = """
        tasks:
          a: &base
            command: first
            env: {A: 1}
            retries: 2
          b:
            <<: *base
            command: second
    """
    a, b = load(text).specs
    assert (a.command, b.command) == ("first", "second")
    assert (b.retries, b.env) == (2, {"A": "1"})


def test_a_shell_task_gets_its_args_as_a_script_does(service: Service) -> None:
    text = 'tasks: {a: {shell: \'echo "$0 $1"\', args: ["b c"]}}'
    (spec,) = load(text).specs
    assert service.run(spec.command, *spec.args) == "sh b c\n"


@pytest.mark.parametrize(
    ("text", "line", "mistake"),
    [
        ("", 1, "the file is empty"),
        ("- a", 1, "expected a mapping, found a list"),
        ("workers: 2", 1, "it has no tasks"),
        ("tasks: {a: {command: x}}\nworkers: 0", 2, "workers: expected a whole number of at least"),
        ("tasks: {a: {command: x}}\njobs: 2", 2, "jobs: there is no such field"),
        ("tasks:\n  a:\n    comand: x", 3, "tasks.a.comand: there is no such field; is 'command'"),
        ("tasks:\n  a: {}", 2, "tasks.a: a task has either a command or a shell"),
        ("tasks:\n  a: {command: x, shell: y}", 2, "a task has either a command or a shell"),
        ("tasks:\n  a: x", 2, "tasks.a: expected a mapping, found a text: 'x'"),
        ("tasks:\n  a: {command: []}", 2, "the command is empty"),
        ("tasks:\n  a: {command: ''}", 2, "the command is empty"),
        ("tasks:\n  a:\n    command: a | b", 3, "tasks.a.command: '|' needs a shell"),
        ("tasks:\n  a:\n    command: a $HOME", 3, "'$' needs a shell"),
        ('tasks:\n  a:\n    command: a "|$@" b', 3, "'$' needs a shell"),
        ("tasks:\n  a:\n    command: a 'b", 3, "No closing quotation"),
        ("tasks:\n  a: {command: [x, null]}", 2, "tasks.a.command[1]: expected a text, found noth"),
        ("tasks:\n  a: {command: x, after: b}", 2, "expected a list, found a text: 'b'"),
        ("tasks:\n  a: {command: x, timeout: 1:30}", 2, "expected a number of seconds above 0"),
        ("tasks:\n  a: {command: x, timeout: 0}", 2, "expected a number of seconds above 0"),
        ("tasks:\n  a: {command: x, timeout: .inf}", 2, "expected a number of seconds above 0"),
        ("tasks: {a: {command: x}}\nfinally:\n  a: {command: x}", 3, "there already, on line 1"),
        ("tasks: {a: {command: x}}\nfinally:\n  b: {command: x,\n   after: [a]}", 4, "'a', which"),
        ("tasks:\n  a: {command: x, grace: -1}", 2, "expected a number of seconds, 0 or more"),
        ("tasks:\n  a: {command: x, stop_signal: TREM}", 2, "no signal 'TREM'; is 'TERM' meant?"),
        ("tasks:\n  a: {command: x, stop_signal: 99}", 2, "no signal '99'"),
        ("tasks:\n  a: {command: x, description: 'a\n\n    b'}", 2, "expected one line"),
        ("tasks:\n  a: {command: x, retries: -1}", 2, "expected a whole number of at least 0"),
        ("tasks:\n  a: {command: x, retries: 0x1}", 2, "expected a whole number of at least 0"),
        ("tasks:\n  a: {command: x, allow_failure: maybe}", 2, "expected true or false"),
        ("tasks:\n  a: {command: x, env: [A]}", 2, "expected a mapping, found a list"),
        ("tasks:\n  a: {command: x, env: {A=B: x}}", 2, "A=B"),
        ("tasks:\n  a: {command: x}\n  a: {command: y}", 3, "'a' is there twice, first on line 2"),
        (
            "tasks:\n  a: {command: x,\n   after: [c]}\n  b: {command: x}",
            3,
            "'c', which is not the",
        ),
        ("tasks:\n  a: {command: x, after: [b]}\n  b: {command: x, after: [a]}", 2, "a -> b -> a"),
        ("tasks:\n  a: {command: x,\n   pools: [p]}", 3, "'p', which is not there"),
        ("tasks:\n  a: {command: x\n  b: y", 3, "expected ',' or '}'"),
        ("tasks:\n  a: *x", 2, "found undefined alias 'x'"),
        ("tasks: {a: {command: x}}\n---\ntasks: {}", 2, "but found another document"),
        ("tasks: {? [a] : {command: x}}", 1, "tasks: a key must be a text"),
        ("tasks: {a: &a {command: x, env: *a}}", 1, "expected a text, found a mapping"),
        ("tasks:\n \x01", 2, "YAML forbids the character '\\x01'"),
        ("tasks: " + "[" * 9999, 1, "it is nested too deeply"),
    ],
)
def test_each_mistake_is_told_with_its_line(text: str, line: int, mistake: str) -> None:
    found = wrong(text)
    assert any(where == line and mistake in what for where, what in found), found


def test_all_mistakes_are_told_at_once() -> None:
    text = "tasks:\n  a: {comand: x}\n  b: {command: x, retries: no}\npols: {}"
    assert [line for line, _ in wrong(text)] == [2, 3, 4]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"tasks\.yml"):
        load_tasks(MemoryMedium(), "tasks.yml")


words = st.text(st.characters(codec="ascii", categories=["L", "P", "S", "Z"]), max_size=8)


@given(st.lists(words, min_size=1, max_size=4).map(" ".join))
def test_a_command_is_what_a_shell_makes_of_it_or_refused(text: str) -> None:
    medium = MemoryMedium()
    escaped = text.replace("'", "''")
    medium.write_text("tasks.yml", f"tasks: {{a: {{command: '{escaped}'}}}}")
    try:
        (spec,) = load_tasks(medium, "tasks.yml").specs
    except TaskFileError:
        return
    if set(text) & set("~?[]{}!#="):
        return  # these mean something in some shells and places, and are taken as they are
    script = f"printf '%s\\0' {text}"
    shell = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert spec.argv == shell.stdout.split("\0")[:-1]


@given(st.text())
def test_no_text_brings_anything_but_tasks_or_an_error(text: str) -> None:
    medium = MemoryMedium()
    medium.write_bytes("tasks.yml", f"tasks: {text}".encode(errors="replace"))
    try:
        load_tasks(medium, "tasks.yml")
    except TaskFileError as error:
        assert error.mistakes  # noqa: PT017 - whether it is raised is up to the text
