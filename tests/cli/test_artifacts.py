from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from build_support import accepts
from core_infra._cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dist/linux_amd64").mkdir(parents=True)
    (tmp_path / "dist/linux_amd64/app").write_bytes(b"program")
    (tmp_path / "dist/windows_amd64").mkdir()
    (tmp_path / "dist/windows_amd64/app.exe").write_bytes(b"MZ")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def release() -> None:
    run("archive", "dist/linux_amd64/app", "dist/windows_amd64/app.exe")
    names = ["dist/app_linux_amd64.tar.gz", "dist/app_windows_amd64.zip"]
    run("checksum", *names, "--output", "dist/CHECKSUMS.txt")


def test_archives_are_named_by_the_directory_of_their_platform(here: Path) -> None:
    said = run("archive", "dist/linux_amd64/app", "dist/windows_amd64/app.exe")
    paths = [line[66:] for line in said.splitlines()]
    assert paths == ["dist/app_linux_amd64.tar.gz", "dist/app_windows_amd64.zip"]
    ran = subprocess.run(["sha256sum", "-c"], input=said, text=True, cwd=here, check=False)
    assert ran.returncode == 0


def test_the_target_the_format_and_the_profile_can_be_given(here: Path) -> None:
    (here / "web/assets").mkdir(parents=True)
    run("archive", "web", "--tree", "--target", "linux/arm64", "--format", "zip")
    assert (here / "web_linux_arm64.zip").exists()
    data = json.loads(run("archive", "dist/linux_amd64/app", "--profile", "small", "--json"))
    assert data[0]["path"] == "dist/app_linux_amd64.tar.xz"
    assert len(data[0]["content"]) == 64
    assert "is not a target" in run("archive", "web", "--target", "linux", code=5)
    assert "a directory where a file" in run("archive", "web", code=5)


def test_a_release_that_was_made_here_is_good(here: Path) -> None:
    release()
    accepts("sha256sum", "-c", "CHECKSUMS.txt", cwd=here / "dist")
    said = run("verify", "dist")
    assert "✓" in said
    assert "not signed" in said
    assert json.loads(run("verify", "dist", "--json"))["ok"]


def test_a_release_that_was_changed_is_not(here: Path) -> None:
    release()
    (here / "dist/app_windows_amd64.zip").write_bytes(b"PK")
    said = run("verify", "dist", code=5)
    assert "✗" in said
    assert "app_windows_amd64.zip: checksum: it is" in said
    result = CliRunner().invoke(main, ["verify", "dist", "--json"])
    data = json.loads(result.stdout)
    assert not data["ok"]
    assert len(data["problems"]) == 1


def test_verify_says_how_two_builds_differ(here: Path) -> None:
    release()
    (here / "dist").rename(here / "one")
    (here / "dist/linux_amd64").mkdir(parents=True)
    (here / "dist/linux_amd64/app").write_bytes(b"Program")
    (here / "dist/windows_amd64").mkdir()
    (here / "dist/windows_amd64/app.exe").write_bytes(b"MZ")
    release()
    run("verify", "one", "--same-as", "one")
    said = run("verify", "one", "--same-as", "dist", code=5)
    assert "app_linux_amd64.tar.gz: app: content: at byte 0: 70" in said


def test_discover_lists_types_and_says_why(here: Path) -> None:
    (here / "go.mod").write_text("module x\n")
    (here / "Dockerfile").write_text("FROM x\n")
    assert run("discover") == "go\ndocker\n"
    said = run("discover", ".", "--explain")
    assert "✓ go        go.mod is there" in said
    assert "  node      no package.json" in said
    assert [one["type"] for one in json.loads(run("discover", "--json"))] == ["go", "docker"]
    assert "is not a project" in run("discover", "dist", code=3)


def test_checksums_can_be_json(here: Path) -> None:
    del here
    data = json.loads(run("checksum", "dist/linux_amd64/app", "--json"))
    assert len(data[0]["checksum"]) == 64
