from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from core_infra import errors
from core_infra._cli.main import COMMANDS, EXIT_CODES, exit_code, main


def test_help_lists_each_command_and_exit_code() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(name in text and command.help in text for name, command in COMMANDS.items())
    assert all(f"  {code}  " in text for _, code in EXIT_CODES)


def test_each_command_is_there() -> None:
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, result.output
        assert "Usage" in result.output


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["no-such"])
    assert result.exit_code == 2
    assert "no-such" in result.output


@pytest.mark.parametrize(("kind", "code"), EXIT_CODES)
def test_each_kind_of_error_has_an_exit_code(
    kind: type[errors.CoreInfraError], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command
    def fails() -> None:
        raise kind("it failed: 7", why="it must", todo="leave it")

    monkeypatch.setattr(type(main), "get_command", lambda *_: fails)
    result = CliRunner().invoke(main, ["fails"])
    assert result.exit_code == code
    assert "it failed: 7: it must\nleave it" in result.output


def test_an_error_without_a_kind_is_1() -> None:
    assert exit_code(errors.CoreInfraError("it")) == 1


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command
    def waits() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(main), "get_command", lambda *_: waits)
    result = CliRunner().invoke(main, ["waits"])
    assert result.exit_code == 130
    assert "interrupted" in result.output
