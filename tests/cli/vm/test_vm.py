"""``core-infra vm``, as a user sees it: one machine for all tests that do not end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest
from click.testing import CliRunner

from core_infra._cli.main import main
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.state_file import State
from core_infra.vm._state_directory import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

COMMAND = [sys.executable, "-m", "core_infra", "vm"]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cli-vm-") as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def here(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(directory))


@pytest.fixture(scope="module")
def web(directory: Path) -> Iterator[str]:
    """A machine that a command has started, which has ended; its id."""
    environment = {**os.environ, VARIABLE: str(directory)}
    done = subprocess.run(
        [*COMMAND, "run", "-d", "default", "--name", "web", "-p", "80", "-m", "128"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    yield done.stdout.strip()
    machines = LinuxKitManager(state=State(directory))
    for container in machines.list():
        machines.remove(container.id, force=True)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["vm", *args])


def test_nothing_at_first() -> None:
    assert run("ps", "-q").output == ""
    assert json.loads(run("ps", "-a", "--json").output) == []


def test_it_outlives_its_command_and_is_listed(web: str) -> None:
    assert run("ps", "-q").output == f"{web}\n"
    (row,) = json.loads(run("ps", "--json").output)
    assert (row["name"], row["status"], row["memory"]) == ("web", "running", 128)
    assert list(row["ports"].values()) == [80]
    assert "web" in run("ps").output


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        (["sh", "-c", "echo hello; exit 7"], 7, b"hello\n"),
        (["grep", "-i", "x", "/dev/null"], 1, b""),
        (["sh", "-c", "kill -9 $$"], 137, b""),
        (["no-such-program"], 127, b""),
        (["/etc/passwd"], 126, b""),
        (["cat"], 0, b"typed\n"),
    ],
)
def test_exec_has_the_commands_own_output_and_code(
    web: str, command: list[str], code: int, output: bytes
) -> None:
    done = subprocess.run(
        [*COMMAND, "exec", "-i", web[:4], *command],
        input=b"typed\n",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, output), done.stderr


def test_exec_as_another_user(web: str) -> None:
    command = [*COMMAND, "exec", "--user", "tester", web, "id", "-un"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"tester\n"


def test_closed_streams_are_ends(web: str) -> None:
    script = f'{sys.executable} -m core_infra vm exec -i {web} sh -c "cat; echo end" <&-'
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"end\n", b"")
    script = f"{sys.executable} -m core_infra vm exec {web} echo hello >&-"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_runs_is_ended_with_its_command(web: str, number: signal.Signals) -> None:
    # In a process group of its own, which one for the command would not reach.
    line = [*COMMAND, "exec", web, "sh", "-c", "echo up; timeout 4712 sleep 4711"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"up\n"
        waiting.send_signal(number)
        code = -number if number == signal.SIGKILL else 128 + number
        assert waiting.wait(60) == code
    gone = "while ps | grep -q '[0-9] sleep 4711'; do sleep 0.1; done"
    assert run("exec", web, "sh", "-c", gone).exit_code == 0


def test_several_commands_run_at_once(web: str) -> None:
    first = [*COMMAND, "exec", web, "sh", "-c", "mkfifo /tmp/p; echo up; cat /tmp/p"]
    with subprocess.Popen(first, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"up\n"
        assert run("exec", web, "sh", "-c", "echo from the second >/tmp/p").exit_code == 0
        assert waiting.stdout.read() == b"from the second\n"
        assert waiting.wait(60) == 0


def test_files_go_in_and_out(web: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("hello")
    assert run("cp", str(tmp_path / "d"), "web:/srv/d").exit_code == 0
    assert run("cp", f"{web}:/srv/d/file", str(tmp_path / "back")).exit_code == 0
    assert (tmp_path / "back").read_text() == "hello"
    assert run("cp", "here", "there").exit_code == 2
    missing = run("cp", "web:/nowhere/at-all", str(tmp_path / "never"))
    assert missing.exit_code == 3
    assert "No such file" in missing.output
    assert run("cp", str(tmp_path / "nowhere"), "web:/srv").exit_code == 3
    assert run("cp", "web:/dev/null", str(tmp_path / "never")).exit_code == 5
    assert run("cp", "web:/etc/passwd", "/dev/full").exit_code == 9
    assert run("cp", str(tmp_path / "d"), "web:/etc/passwd").exit_code == 8
    assert not (tmp_path / "never").exists()
    (tmp_path / "a:b").write_text("colon")
    assert run("cp", f"{tmp_path}/a:b", "web:/srv/d").exit_code == 0
    assert run("exec", web, "cat", "/srv/d/a:b").output == "colon"
    assert run("cp", str(tmp_path / "d"), "web:/srv/d").exit_code == 0
    assert run("exec", web, "ls", "/srv/d").output.split() == ["a:b", "d", "file"]


def test_the_console_is_entered_and_left(web: str) -> None:
    terminal = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "console", "web"], timeout=60, encoding="utf-8"
    )
    terminal.expect_exact("Ctrl-] leaves")
    terminal.sendline("echo $((6 * 7))")
    terminal.expect_exact("42")
    terminal.send("\x1d")
    terminal.expect_exact("It runs on: core-infra vm stop web")
    terminal.expect(pexpect.EOF)
    assert "42" in run("logs", web).output


def test_a_shell_needs_no_network(web: str) -> None:
    terminal = pexpect.spawn(COMMAND[0], [*COMMAND[1:], "shell", web], timeout=60, encoding="utf-8")
    terminal.expect_exact("exit or Ctrl-] returns")
    terminal.sendline("tty; stty size; exit 7")
    terminal.expect(r"/dev/pts/\d+\s+24 80\s")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 7
    assert run("exec", web, "echo", "it runs on").output == "it runs on\n"


def test_a_shell_completes_names_and_ids(web: str) -> None:
    environment = {"_CORE_INFRA_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    for typed, expected in (("we", "plain,web"), (web[:3], f"plain,{web}")):
        done = CliRunner().invoke(
            main,
            env={**environment, "COMP_WORDS": f"core-infra vm stop {typed}"},
            prog_name="core-infra",
        )
        assert expected in done.output.split()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["stop", "nobody"], 3, "there is no machine 'nobody'"),
        (["exec", "nobody", "true"], 125, "there is no machine"),
        (["logs", "nobody"], 3, "no machine"),
        (["console", "nobody"], 3, "no machine"),
        (["run"], 2, "either an IMAGE or a --template"),
        (["run", "default", "--var", "A=b"], 2, "--var is for a --template"),
        (["run", "default", "-p", "x"], 2, "'x' is not a port"),
        (["run", "default", "-p", "1:2", "-p", "1:3"], 2, "port 1 is given twice"),
        (["run", "default", "-v", "/tmp"], 2, "DIRECTORY:PATH"),
        (["run", "default", "-v", "/tmp:/a:rx"], 2, "'rx' of '/tmp:/a:rx' is not an option"),
        (["run", "default", "-v", "/tmp:/a:ro,rw"], 2, "cannot be both ro and rw"),
        (["run", "default", "-v", "/tmp:a"], 5, "that is relative"),
        (["run", "default", "-p", "80/sctp"], 2, "'sctp' of '80/sctp' is not a protocol"),
        (["run", "default", "-p", "80-90:80-90"], 2, "'80-90' is not a port"),
        (["run", "default", "-p", "::1:80:80"], 2, "an IPv6 address is in []"),
        (["run", "default", "-p", "[::1]:8080:80"], 5, "IPv4 addresses only"),
        (["run", "default", "-p", "localhost:8080:80"], 5, "'localhost' is not an IP address"),
        (["cp", "a:b", "c:d"], 2, "a path of this host with a colon begins with / or ./"),
        (["cp", "x", "web:"], 2, "'web:' has no path after the colon"),
        (["run", "default", "-v", "/tm:p:/a"], 3, "there is no directory /tm:p"),
        (["ps", "-q", "--json"], 2, "exclude each other"),
        (["run", "/no/such/image"], 3, "there is no image /no/such/image"),
        (["run", "--template", "core-dev"], 3, "SSH_KEY"),
        (["run", "--template", "nothing"], 3, "core-dev, server-php"),
        (["rm"], 2, "either MACHINES or --stopped"),
    ],
)
def test_mistakes_are_told(args: list[str], code: int, said: str) -> None:
    result = run(*args)
    assert result.exit_code == code
    assert said in result.output


def test_the_program_linuxkit_must_be_there_if_it_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    template = ("--template", "core-dev", "--var", "SSH_KEY=ssh-ed25519 AAAA me")
    result = run("run", *template, "--assembler", "linuxkit")
    assert result.exit_code == 9
    assert "linuxkit is not on PATH" in result.output


def test_mistakes_of_a_template_are_reported_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".core/linuxkit").mkdir(parents=True)
    (tmp_path / ".core/linuxkit/mine.yml").write_text("kernl: {}\ninit: ${INIT}\n")
    result = run("run", "--template", "mine", "--var", "INIT=a\nb")
    assert result.exit_code == 5
    assert "cannot use .core/linuxkit/mine.yml" in result.output
    assert "mine.yml:1: kernl: unknown field; did you mean 'kernel'?" in result.output
    assert "mine.yml:2: init: expected a list, found a string" in result.output


def test_templates_are_listed_and_filled_in() -> None:
    rows = json.loads(run("templates", "--json").output)
    assert [row["name"] for row in rows] == ["core-dev", "server-php"]
    assert rows[0]["required"] == ["SSH_KEY"]
    text = run("templates", "server-php", "--var", "SSH_KEY=ssh-x y").output
    assert 'contents: "ssh-x y"' in text


def test_images(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(b"QFI\xfb" + b"\0" * 600)
    (tmp_path / "b.iso").write_bytes(b"nothing")
    rows = {row["image"]: row for row in json.loads(run("images", str(tmp_path), "--json").output)}
    assert rows[str(tmp_path / "a.qcow2")]["format"] == "qcow2"
    assert rows[str(tmp_path / "b.iso")]["format"] == "?"


def test_full_file_systems_do_not_harm_a_machine(web: str) -> None:
    fill = "for d in /tmp /run /dev/shm /dev; do dd if=/dev/zero of=$d/fill bs=64k 2>&1; done"
    line = [*COMMAND, "exec", web, "sh", "-c", fill]
    assert subprocess.run(line, capture_output=True, check=False).stdout.count(b"No space") == 4
    assert (
        run("exec", "web", "sh", "-c", "rm /tmp/fill /run/fill /dev/fill /dev/shm/fill").exit_code
        == 0
    )


@pytest.mark.usefixtures("web")
def test_the_power_of_a_machine(directory: Path) -> None:
    assert run("exec", "web", "touch", "/tmp/in-memory").exit_code == 0
    assert run("reboot", "web").output == "web\n"
    assert run("reset", "web").output == "web\n"
    assert run("power-cut", "web", "web").output == "web: its power was cut\n"
    assert run("ps", "-q").output == ""
    for command in ("power-off", "power-cut", "reset", "reboot"):
        assert run(command, "web").exit_code == 6
    assert run("power-on", "web").output == "web\n"
    assert run("exec", "web", "test", "-e", "/tmp/in-memory").exit_code == 1
    pid = LinuxKitManager(state=State(directory)).find("web").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    refused = run("power-off", "web", "-t", "0.1")
    os.kill(pid, signal.SIGCONT)
    assert "did not power off within 0.1 s: its guest does not answer" in refused.output
    assert "core-infra vm power-cut web" in refused.output
    assert run("exec", "web", "true").exit_code == 0, "it runs on"
    assert run("power-off", "web").output == "web: the guest shut down\n"
    assert run("power-on", "web").output == "web\n"


def test_stop_and_rm(web: str) -> None:
    assert run("exec", "web", "true").exit_code == 0
    assert run("rm", "web").exit_code == 6
    stopped = run("stop", "web", "-t", "0")
    assert stopped.output == "web: the hypervisor ended on request\n"
    assert run("ps", "-q").output == ""
    assert run("ps", "-aq").output == f"{web}\n"
    assert run("exec", "web", "true").exit_code == 125
    assert "Linux version" in run("logs", "-f", "web").output
    assert (
        "start that one: core-infra vm start web" in run("run", "default", "--name", "web").output
    )
    assert run("start", "web", "web").output == "web\n"
    assert run("start", "web").exit_code == 6
    removed = run("rm", "-f", "nobody", "web")
    assert removed.exit_code == 3
    assert removed.stdout == "web\n"
    assert run("ps", "-aq").output == ""
