"""The options of a process, and what is wrong with them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from core_infra.errors import InvalidError
from core_infra.process import (
    RunOptions,
    Service,
)


def test_a_variable_can_be_taken_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWAY", "there")
    options = RunOptions("sh", ["-c", "echo ${AWAY-unset}"], env={"AWAY": None})
    assert service.run_with_options(options) == "unset\n"


def test_all_mistakes_of_options_are_reported_at_once(service: Service) -> None:
    options = RunOptions("", "arguments", env={"A=B": "c"}, timeout=0, grace_period=-1)
    with pytest.raises(InvalidError) as caught:
        service.start_with_options(options)
    for expected in (
        "command is empty",
        "one string",
        "'A=B'",
        "timeout is 0",
        "grace_period is -1",
    ):
        assert expected in str(caught.value)
    assert service.list() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"args": [5]}, "5 is not a string"),
        ({"args": iter(["a"])}, "give a list"),
        ({"env": {"NAME": 1}}, "'NAME'=1"),
        ({"env": ["NAME=1"]}, "give a dict"),
        ({"dir": 3}, "dir is 3"),
        ({"log": 3}, "log is 3"),
        ({"pass_fds": ["3"]}, "'3' is not a descriptor"),
        ({"pass_fds": range(3, 303)}, "pass_fds has 300 descriptors, more than 248"),
        ({"restart": "always"}, "give a RestartPolicy"),
        ({"buffer_size": 1.5}, "buffer_size is 1.5"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"stdin": 2.5}, "cannot read from 2.5"),
        ({"stdin": "\ud800"}, "give bytes"),
        ({"args": ["a\0b"]}, "a NUL character is in the command"),
        ({"args": ["\ud800"]}, "cannot encode are in the command"),
        ({"dir": "/\0/usr/bin/id"}, "a NUL character is in dir"),
        ({"dir": "\ud800"}, "cannot encode are in dir"),
        ({"dir": b"/"}, "give a path"),
        ({"log": "a\0b"}, "a NUL character is in log"),
        ({"env": {"NAME": "a\0b"}}, "no environment can have"),
        ({"env": {"NAME": "\ud800"}}, "no environment can have"),
        ({"pty_size": (0, 80)}, "pty_size is (0, 80)"),
        ({"stop_signal": 99}, "which is not a signal"),
        ({"linger": -1}, "linger is -1"),
        ({"stdin": io.StringIO("text")}, "cannot read from <_io.StringIO"),
    ],
)
def test_a_wrong_type_is_reported(service: Service, options: dict[str, Any], expected: str) -> None:
    for start in (service.start_with_options, service.run_with_options):
        with pytest.raises(InvalidError) as caught:
            start(RunOptions("cat", **options))
        assert expected in str(caught.value)
    assert service.list() == []
