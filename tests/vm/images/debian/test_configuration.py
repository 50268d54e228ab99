"""Packages whose maintainer scripts fail: the error shows the package, the script, its output."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CommandFailedError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.debian.configuration import configuration_error
from kernel_packages import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Launcher

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="this host has no apt")


def output_of_dpkg(root: Path, *debs: Path) -> str:
    """What this host's dpkg prints when it installs packages below a directory."""
    database = root / "var/lib/dpkg"
    (database / "info").mkdir(parents=True)
    (database / "updates").mkdir()
    for name in ("status", "available"):
        (database / name).touch()
    forces = ("not-root", "script-chrootless", "depends", "bad-path")
    command = ["dpkg", f"--root={root}", *(f"--force-{force}" for force in forces)]
    done = subprocess.run(
        [*command, "--install", *debs],
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_only_the_output_of_the_script_that_failed_is_shown(
    repository: Repository, tmp_path: Path
) -> None:
    noisy = repository.add("noisy", {"DEBIAN/postinst": b"#!/bin/sh\necho not mine\n"})
    script = b"#!/bin/sh\necho checking\necho no quorum >&2\nexit 3\n"
    broken = repository.add("broken", {"DEBIAN/postinst": script})
    after = repository.add("zlast", {"DEBIAN/postinst": b"#!/bin/sh\necho nor mine\n"})
    output = output_of_dpkg(tmp_path / "root", noisy, broken, after)
    error = configuration_error("debian:bookworm", output, 1)
    assert error.what == "cannot configure broken in debian:bookworm"
    assert error.why.startswith("its post-installation script ")
    assert error.why.endswith("exit status 3, and printed:\n    checking\n    no quorum")


def test_a_failure_of_dpkg_itself_shows_its_last_lines() -> None:
    error = configuration_error("debian:bookworm", "dpkg: error: no room\n", 2)
    assert error.what == "cannot configure packages in debian:bookworm"
    assert error.why.endswith("dpkg: error: no room")


@pytest.mark.long  # it configures a hundred packages, once for each script
@pytest.mark.parametrize(
    ("script", "named"), [("preinst", "pre-installation"), ("postinst", "post-installation")]
)
def test_a_script_that_fails_in_the_machine_is_named_and_nothing_is_kept(
    script: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    launcher: Launcher,
) -> None:
    repository = Repository(tmp_path)
    text = b"#!/bin/sh\necho no quorum >&2\nexit 3\n"
    repository.add("broken-service", {f"DEBIAN/{script}": text})
    parts = tmp_path / "parts"  # the host's own repositories, and this one
    shutil.copytree("/etc/apt/sources.list.d", parts)
    repository.config.write_text(f'Dir::Etc::SourceParts "{parts}";\n')
    (parts / "local.list").write_text((tmp_path / "sources.list").read_text())
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    images = cache_root() / "images"
    before = set(images.glob("debian-*"))
    with pytest.raises(CommandFailedError) as caught:
        launcher.make_image("debian", packages=["broken-service"])
    assert caught.value.what.startswith("cannot configure broken-service in ")
    assert caught.value.why.startswith(f"its {named} script ")
    assert caught.value.why.endswith("exit status 3, and printed:\n    no quorum")
    assert set(images.glob("debian-*")) == before
    assert not list(images.glob(".making-debian-*"))
