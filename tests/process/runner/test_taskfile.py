"""Task files: what they may say, and what is said of those that are wrong."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import NotFoundError
from core_infra.medium._memory import MemoryMedium
from core_infra.process._runner.spec import RunSpec
from core_infra.process._runner.taskfile import TaskFile, TaskFileError, load_tasks

if TYPE_CHECKING:
    from core_infra.process._service import Service


def load(text: str, path: str = "tasks.yml") -> TaskFile:
    medium = MemoryMedium()
    medium.write_text(path, text)
    return load_tasks(medium, path)


def wrong(text: str) -> list[tuple[int, str]]:
    with pytest.raises(TaskFileError) as caught:
        load(text)
    assert all(str(mistake) in str(caught.value) for mistake in caught.value.mistakes)
    places = [str(mistake).split(":", 2) for mistake in caught.value.mistakes]
    assert {file for file, _, _ in places} == {"tasks.yml"}
    return [(int(line), message) for _, line, message in places]


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
        ("workers: 2", 1, "tasks: missing field; expected a mapping"),
        ("tasks: {a: {command: x}}\nworkers: 0", 2, "workers: expected a whole number of at least"),
        ("tasks: {a: {command: x}}\njobs: 2", 2, "jobs: unknown field; expected one of"),
        (
            "tasks:\n  a:\n    comand: x",
            3,
            "tasks.a.comand: unknown field; did you mean 'command'?",
        ),
        ("tasks:\n  a: {}", 2, "tasks.a.command: missing field; a task has"),
        ("tasks:\n  a: {command: x, shell: y}", 2, "a task has either a command or a shell"),
        ("tasks:\n  a: x", 2, "tasks.a: expected a mapping, found a string: 'x'"),
        ("tasks:\n  a: {command: []}", 2, "the command is empty"),
        ("tasks:\n  a: {command: ''}", 2, "the command is empty"),
        ("tasks:\n  a:\n    command: a | b", 3, "tasks.a.command: '|' needs a shell"),
        ("tasks:\n  a:\n    command: a $HOME", 3, "'$' needs a shell"),
        ('tasks:\n  a:\n    command: a "|$@" b', 3, "'$' needs a shell"),
        ("tasks:\n  a:\n    command: a 'b", 3, "No closing quotation"),
        ("tasks:\n  a: {command: [x, null]}", 2, "tasks.a.command[1]: expected a string, found no"),
        ("tasks:\n  a: {command: x, after: b}", 2, "expected a list, found a string: 'b'"),
        ("tasks:\n  a: {command: x, timeout: 1:30}", 2, "expected a number of seconds above 0"),
        ("tasks:\n  a: {command: x, timeout: 0}", 2, "expected a number of seconds above 0"),
        ("tasks:\n  a: {command: x, timeout: .inf}", 2, "expected a number of seconds above 0"),
        ("tasks: {a: {command: x}}\nfinally:\n  a: {command: x}", 3, "there already, on line 1"),
        ("tasks: {a: {command: x}}\nfinally:\n  b: {command: x,\n   after: [a]}", 4, "'a', which"),
        ("tasks:\n  a: {command: 'x ${A'}", 2, "'$' needs a shell"),
        ("tasks:\n  a: {command: [x, '${A b}']}", 2, "a '${' that begins no variable"),
        ("tasks:\n  a: {command: 'x ${A:-b c}'}", 2, "a '${' that begins no variable"),
        ("dotenv: [.env?]\ntasks: {a: {command: x}}", 1, "put a string with a '?' in quotes"),
        ("vars: {A B: x}\ntasks: {a: {command: x}}", 1, "'A B' cannot be a variable's name"),
        ("tasks:\n  a: {command: x, env: {A: '${XYZZY}'}}", 2, "there is no variable 'XYZZY'"),
        ("env: {XYZZY: null}\ntasks: {a: {command: '${XYZZY}'}}", 2, "no variable 'XYZZY'"),
        ("tasks:\n  a: {command: x, grace: -1}", 2, "expected a number of seconds, 0 or more"),
        (
            "tasks:\n  a: {command: x, stop_signal: TREM}",
            2,
            "no signal 'TREM'; did you mean 'TERM'?",
        ),
        ("tasks:\n  a: {command: x, stop_signal: 99}", 2, "no signal '99'"),
        ("tasks:\n  a: {command: x, description: 'a\n\n    b'}", 2, "expected one line"),
        ("tasks:\n  a: {command: x, retries: -1}", 2, "expected a whole number of at least 0"),
        ("tasks:\n  a: {command: x, retries: 0x1}", 2, "expected a whole number of at least 0"),
        ("tasks:\n  a: {command: x, allow_failure: maybe}", 2, "expected true or false"),
        ("tasks:\n  a: {command: x, env: [A]}", 2, "expected a mapping, found a list"),
        ("tasks:\n  a: {command: x, env: {A=B: x}}", 2, "A=B"),
        (
            "tasks:\n  a: {command: x}\n  a: {command: y}",
            3,
            "tasks.a: duplicate field; it is first on line 2",
        ),
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
        ("tasks: {? [a] : {command: x}}", 1, "tasks: a key must be a string"),
        ("tasks: {a: &a {command: x, env: *a}}", 1, "expected a string, found a mapping"),
        ("tasks:\n \x01", 2, "invalid YAML: the character U+0001 is not allowed"),
        ("tasks: " + "[" * 9999, 1, "it is nested more than 32 levels deep"),
    ],
)
def test_each_mistake_is_reported_with_its_line(text: str, line: int, mistake: str) -> None:
    found = wrong(text)
    assert any(where == line and mistake in what for where, what in found), found


def test_all_mistakes_are_reported_at_once() -> None:
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


def test_variables_are_replaced_after_splitting_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "outside")
    monkeypatch.delenv("UNSET", raising=False)
    text = """
        vars: {A: "two words; ${B} 'x", B: b, EMPTY: ""}
        env: {SHARED: "${B}!", GONE: null}
        tasks:
          text:
            command: echo ${A} "<${B}>" '${B}' \\${B} $${B} ${UNSET:-none} "${EMPTY:-a b}" x${B}y
          words:
            command: [echo, "${A}", $A]
            args: ["${FROM_OUTSIDE}"]
            dir: sub/${B}
            env: {OWN: "${A}", B: own}
          script:
            shell: echo "$A ${B}"
            env: {B: own}
    """
    text_task, words, script = load(text).specs
    a = "two words; ${B} 'x"
    assert text_task.args == (a, "<b>", "${B}", "${B}", "${B}", "none", "a b", "xby")
    assert text_task.env == {"SHARED": "b!", "GONE": None}
    assert words.args == (a, "$A", "outside")
    assert words.dir == "sub/b"
    assert words.env == {"SHARED": "b!", "GONE": None, "OWN": a, "B": "own"}
    assert script.args == ("-euc", 'echo "$A ${B}"')
    assert script.env == {"SHARED": "b!", "GONE": None, "A": a, "B": "own", "EMPTY": ""}


def test_given_variables_have_the_last_word() -> None:
    medium = MemoryMedium()
    text = "vars: {A: a}\nenv: {E: e}\ntasks: {t: {command: 'echo ${A} ${E} ${N}'}}"
    medium.write_text("tasks.yml", text)
    (spec,) = load_tasks(medium, "tasks.yml", {"A": "1", "E": "2", "N": "3"}).specs
    assert (spec.args, spec.env) == (("1", "2", "3"), {"E": "2"})


def test_files_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "outside")
    medium = MemoryMedium()
    medium.write_text(
        "x/.env",
        "# comment\n\nA=plain text # comment\nexport B = 'single $A # kept'  # comment\n"
        'C="two\nlines \\"\\n\\$"\nD=\nSET=inside\nE=a#b\n',
    )
    medium.write_text("x/tasks.yml", "dotenv: [.env, '.more?']\ntasks: {t: {command: 'echo ${C}'}}")
    (spec,) = load_tasks(medium, "x/tasks.yml").specs
    assert spec.args == ('two\nlines "\n$',)
    assert spec.env == {
        "A": "plain text",
        "B": "single $A # kept",
        "C": 'two\nlines "\n$',
        "D": "",
        "E": "a#b",
    }
    medium.write_text("x/.env", "A=1\nB 2\nC='open\n")
    medium.write_text("x/tasks.yml", "dotenv: [.env, .more]\ntasks: {t: {command: x}}")
    with pytest.raises(TaskFileError) as caught:
        load_tasks(medium, "x/tasks.yml")
    for part in (
        "x/tasks.yml:1: dotenv[1]: there is no file 'x/.more'; write '.more?' if it may be missing",
        "x/.env:2: expected NAME=value, found 'B 2'",
        "x/.env:3: the quotes of C are not closed",
    ):
        assert part in str(caught.value)


def test_a_value_is_no_part_of_a_script(service: Service) -> None:
    text = "vars: {A: '$(echo broken); \"'}\ntasks: {t: {shell: 'printf %s \"$A\"'}}"
    (spec,) = load(text).specs
    assert service.run_with_options(spec.options()) == '$(echo broken); "'


def included(**files: str) -> TaskFile:
    medium = MemoryMedium()
    for name, text in files.items():
        medium.write_text(name.replace("__", "/") + ".yml", text)
    return load_tasks(medium, "tasks.yml")


def test_included_files_have_their_own_names_directories_and_variables() -> None:
    tasks = included(
        tasks="include: {docs: docs/tasks.yml}\nvars: {A: outer}\nworkers: 2\n"
        "tasks: {all: {command: 'echo ${A}', after: ['docs:build']}}\n",
        docs__tasks="include: {api: api/tasks.yml}\nvars: {A: inner}\nworkers: 9\npools: {p: 1}\n"
        "tasks:\n  build: {command: 'echo ${A}', dir: out, after: ['api:make'], pools: [p]}\n"
        "finally: {stop: {command: x}}\n",
        docs__api__tasks="tasks: {make: {command: y}}",
    )
    assert (tasks.workers, tasks.pools) == (2, {"docs:p": 1})
    assert tasks.specs == (
        RunSpec("all", "echo", ["outer"], after=["docs:build"]),
        RunSpec(
            "docs:build",
            "echo",
            ["inner"],
            dir="docs/out",
            after=["docs:api:make"],
            pools=["docs:p"],
        ),
        RunSpec("docs:api:make", "y", dir="docs/api/"),
    )
    assert [spec.name for spec in tasks.cleanup] == ["docs:stop"]


def test_mistakes_are_reported_with_their_files() -> None:
    with pytest.raises(TaskFileError) as caught:
        included(
            tasks="tasks: {a: {comand: x}}\ninclude: {b: sub/b.yml, c: sub/c.yml, d: gone.yml}\n",
            sub__b="tasks:\n  x: {retires: 1, command: x}\n",
            sub__c="tasks:\n  x: {command: '${XYZZYA}'}\nvars: {XYZZYB: 1}",
        )
    found = str(caught.value)
    for part in (
        "4 mistakes",
        "tasks.yml:1: tasks.a.comand: unknown field; did you mean 'command'?",
        "tasks.yml:2: include.d: cannot read 'gone.yml'",
        "sub/b.yml:2: tasks.x.retires: unknown field; did you mean 'retries'?",
        "sub/c.yml:2: tasks.x.command: there is no variable 'XYZZYA'; did you mean 'XYZZYB'?",
    ):
        assert part in found


def test_a_file_cannot_include_itself() -> None:
    with pytest.raises(TaskFileError) as caught:
        included(
            tasks="tasks: {a: {command: x}}\ninclude: {b: sub/b.yml}\n",
            sub__b="tasks: {b: {command: x}}\ninclude: {a: ../tasks.yml}\n",
        )
    ring = "tasks.yml -> sub/b.yml -> tasks.yml: a file cannot include itself"
    assert f"sub/b.yml:2: include.a: {ring}" in str(caught.value)
