"""What a program gets from its start: directory, environment, descriptors, limits, signals."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from core_infra.process import (
    RunFailedError,
    RunOptions,
    Service,
)
from process_programs import PYTHON

if TYPE_CHECKING:
    from pathlib import Path

# glibc's posix_spawn(), which Python 3.13's subprocess uses, ignores a signal of its own.
SPAWNS = "import os, sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], {}); os.waitpid(p, 0)"


def test_a_directory_and_an_environment(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    show = ["-c", "pwd -P; echo $INHERITED $OWN"]
    options = RunOptions("sh", show, dir=tmp_path, env={"OWN": "é"})
    assert service.run_with_options(options) == f"{tmp_path.resolve()}\nyes é\n"
    monkeypatch.setenv("INHERITED", "changed")
    assert service.run("sh", "-c", "echo $INHERITED") == "changed\n"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert service.run("pwd", "-P").strip() == str(tmp_path.resolve())
    relative = RunOptions("pwd", ["-P"], dir="sub")
    assert service.run_with_options(relative).strip() == str(tmp_path.resolve() / "sub")
    clean = RunOptions("/usr/bin/env", env={"ONLY": "1"}, clean_env=True)
    assert service.run_with_options(clean) == "ONLY=1\n"


def test_programs_get_the_limits_and_the_umask_of_the_moment(service: Service) -> None:
    service.run("true")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    mask = os.umask(0o123)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, before[1]))
    try:
        assert service.run("sh", "-c", "ulimit -n; umask") == "777\n0123\n"
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_program_inherits_no_descriptor_but_those_passed(service: Service) -> None:
    kept, other = os.pipe()
    os.set_inheritable(other, True)  # noqa: FBT003 - the os module's signature
    options = RunOptions(PYTHON, ["-c", f"import os; os.write({other}, b'here')"])
    try:
        with pytest.raises(RunFailedError, match="Bad file descriptor"):
            service.run_with_options(options)
        service.run_with_options(
            RunOptions(PYTHON, options.args, pass_fds=[other], stdin=kept, merge=True)
        )
        assert os.read(kept, 10) == b"here"
    finally:
        os.close(kept)
        os.close(other)


@pytest.mark.parametrize(
    "starter",
    [[], ["sh", "-c", 'trap "" HUP INT QUIT USR1 CHLD; exec "$@"', "sh"], [PYTHON, "-c", SPAWNS]],
    ids=["plain", "nohup", "posix_spawn"],
)
def test_programs_have_no_signal_ignored_whatever_their_starter_has(starter: list[str]) -> None:
    script = (
        "from core_infra.process import Service\n"
        "with Service() as service:\n"
        "    print(service.run('grep', '-E', 'SigIgn|SigBlk', '/proc/self/status'))"
    )
    status = subprocess.check_output([*starter, PYTHON, "-c", script], text=True)
    assert status.split()[1::2] == ["0" * 16, "0" * 16]


def test_programs_start_though_our_directory_is_gone(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert service.run("echo", "here") == "here\n"
    assert service.run_with_options(RunOptions("pwd", dir=tmp_path)) == f"{tmp_path}\n"
    assert service.start("true").info().dir.name == "cwd"


def test_an_environment_may_be_larger_than_a_packet(service: Service) -> None:
    # A variable may have 128 KiB, and all together more.
    env = {f"LARGE_{number}": str(number) * 100_000 for number in range(5)}
    script = "import os; print(sum(len(v) for n, v in os.environ.items() if n[:6] == 'LARGE_'))"
    options = RunOptions(PYTHON, ["-c", script], env=env)
    assert service.run_with_options(options) == "500000\n"
