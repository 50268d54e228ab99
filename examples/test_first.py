"""A first look: commands and files.

Run all examples with::

    pytest --core-vm examples

A test that has the argument ``core_vm`` gets a Linux machine of its own: a real kernel in a real
virtual machine, where the test is root. The machine is started for the test and thrown away after
it, so a test may break whatever it likes.
"""

from pathlib import Path

import pytest

from core_infra.vm import GuestCommandError, Machine


def test_run_a_command(core_vm: Machine) -> None:
    result = core_vm.exec("uname -s")
    assert result.exit_code == 0
    assert result.stdout == "Linux\n"
    assert result.stderr == ""


def test_commands_take_what_subprocess_takes(core_vm: Machine) -> None:
    # A list is run as it is, without a shell: nothing in it needs quotes.
    assert core_vm.exec(["echo", "two  blanks", "$HOME"]).stdout == "two  blanks $HOME\n"

    # Standard input, environment, working directory and user are up to you.
    assert core_vm.exec("sort", input="b\na\n").stdout == "a\nb\n"
    assert core_vm.exec("echo $COLOUR", env={"COLOUR": "blue"}).stdout == "blue\n"
    assert core_vm.exec("pwd", cwd="/etc").stdout == "/etc\n"
    assert core_vm.exec("id -un", user="tester").stdout == "tester\n"

    # With check=True, a command that fails is an error that shows what it printed.
    with pytest.raises(GuestCommandError, match="No such file"):
        core_vm.exec("cat /nowhere", check=True)


def test_what_you_would_not_do_to_your_own_machine(core_vm: Machine) -> None:
    core_vm.exec("rm -rf /home /var; echo secret > /etc/shadow", check=True)
    assert core_vm.exec("ls /home").exit_code != 0


def test_copy_files_in_and_out(core_vm: Machine, tmp_path: Path) -> None:
    script = tmp_path / "greet.sh"
    script.write_text('#!/bin/sh\necho "Hello, $1" > /root/greeting\n')
    script.chmod(0o755)

    core_vm.push(script, "/usr/local/bin/greet")
    core_vm.exec(["greet", "world"], check=True)
    assert core_vm.read_text("/root/greeting") == "Hello, world\n"

    core_vm.pull("/root/greeting", tmp_path / "greeting")
    assert (tmp_path / "greeting").read_text() == "Hello, world\n"


# Another machine than the default: more processors, more memory (in MiB).
@pytest.mark.core_vm(cpus=2, memory=512)
def test_a_bigger_machine(core_vm: Machine) -> None:
    assert core_vm.exec("nproc").stdout == "2\n"
