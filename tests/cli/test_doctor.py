from __future__ import annotations

import importlib.metadata
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from core_infra._cli.host_checks import EXTRAS
from core_infra._cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb", "env", "qemu-system-x86_64", "qemu-system-aarch64")


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(result.stdout)}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with the programs that machines need; an empty cache."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(shutil.which(name) or shutil.which("env") or "/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))
    return programs


@pytest.mark.usefixtures("host")
def test_a_host_that_has_what_machines_need_is_fine_and_unchanged(tmp_path: Path) -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    assert "Machines can run here: pytest --core-vm" in result.output
    assert not (tmp_path / "cache").exists()


def test_without_qemu_no_machine_runs_and_the_remedy_is_a_command(host: Path) -> None:
    for program in host.glob("qemu-system-*"):
        program.unlink()
    result = doctor()
    assert result.exit_code == 9
    assert "→ Install it: apt-get install qemu-system-" in result.output
    assert "No machine can run here yet: see QEMU." in result.output


def test_what_only_options_need_is_named_with_its_package(host: Path) -> None:
    assert not (host / "qemu-img").exists()
    found = findings(doctor("--json"))["qemu-img"]
    assert found["state"] == "missing"
    assert "disks" in found["needed_for"]
    assert found["remedy"] == "apt-get install qemu-utils"


def test_without_apt_an_image_must_be_given(host: Path) -> None:
    (host / "apt-get").unlink()
    found = findings(doctor("--json"))["default image"]
    assert found["state"] == "missing"
    assert "--core-vm-image" in found["remedy"]


@pytest.mark.usefixtures("host")
def test_a_cache_that_cannot_be_written_is_an_error_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", "/proc/cache")
    result = doctor("--json")
    assert result.exit_code == 9
    found = findings(result)["cache"]
    assert found["state"] == "broken"
    assert "CORE_INFRA_CACHE_DIR" in found["remedy"]


def test_each_extra_says_what_it_is_for() -> None:
    extras = importlib.metadata.metadata("core-infra").get_all("Provides-Extra") or []
    assert sorted(EXTRAS) == sorted(extras)


def test_boot_shows_that_a_machine_answers() -> None:
    found = findings(doctor("--boot", "--json"))["machine"]
    assert found["state"] == "ok"
    assert found["detail"].startswith("Linux ")
