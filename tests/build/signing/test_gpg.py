from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from build_support import accepts, needs
from core_infra.build._errors import SigningError, SigningUnavailableError
from core_infra.build._secret import Secret
from core_infra.build._signing.gpg import GpgSigner, verify_gpg
from core_infra.build._signing.tool import pipe_with, run_tool
from core_infra.errors import TimeoutExpiredError
from core_infra.medium import LocalMedium, MemoryMedium
from support import wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    from build_support import GpgHome

FILE = "dist/CHECKSUMS.txt"


def signer(home: GpgHome, passphrase: str | None = None) -> GpgSigner:
    secret = Secret(home.passphrase if passphrase is None else passphrase)
    return GpgSigner(home.address, passphrase=secret, home=home.path)


@pytest.fixture
def medium() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_text(FILE, "sums\n")
    return medium


def test_gpg_accepts_the_signature(tmp_path: Path, gpg_home: GpgHome) -> None:
    medium = LocalMedium(tmp_path)
    medium.write_text(FILE, "sums\n")
    assert signer(gpg_home).sign(medium, FILE) == f"{FILE}.asc"
    assert medium.read_text(f"{FILE}.asc").startswith("-----BEGIN PGP SIGNATURE-----")
    paths = [tmp_path / f"{FILE}.asc", tmp_path / FILE]
    accepts("gpg", "--homedir", gpg_home.path, "--verify", *paths)


def test_check_says_which_key(gpg_home: GpgHome, medium: MemoryMedium) -> None:
    said = signer(gpg_home).check()
    signer(gpg_home).sign(medium, FILE)
    assert verify_gpg(medium, FILE, home=gpg_home.path).fingerprint in said


def test_another_text_another_key_and_no_signature_fail(
    gpg_home: GpgHome, medium: MemoryMedium, tmp_path: Path
) -> None:
    signer(gpg_home).sign(medium, FILE)
    other = medium.fork()
    other.write_text(FILE, "other sums\n")
    with pytest.raises(SigningError, match="BAD signature"):
        verify_gpg(other, FILE, home=gpg_home.path)
    tmp_path.chmod(0o700)
    with pytest.raises(SigningError, match="public key") as caught:
        verify_gpg(medium, FILE, home=str(tmp_path))
    assert "Get the signer's public key" in str(caught.value)
    medium.write_text(f"{FILE}.asc", "no signature")
    with pytest.raises(SigningError):
        verify_gpg(medium, FILE, home=gpg_home.path)


def test_only_the_key_that_is_named_is_accepted(gpg_home: GpgHome, medium: MemoryMedium) -> None:
    signer(gpg_home).sign(medium, FILE)
    medium.write_bytes("key.asc", gpg_home.public_key)
    good = verify_gpg(medium, FILE, key_file="key.asc")
    assert gpg_home.address in good.user
    medium.write_text("bad.asc", "no key")
    with pytest.raises(SigningError, match=r"'bad.asc' has no public key"):
        verify_gpg(medium, FILE, key_file="bad.asc")


def test_a_wrong_passphrase_is_reported_before_the_build(gpg_home: GpgHome) -> None:
    accepts("gpgconf", "--homedir", gpg_home.path, "--kill", "gpg-agent")  # it remembers
    with pytest.raises(SigningUnavailableError, match="GPG_PASSPHRASE") as caught:
        signer(gpg_home, "not the one").check()
    assert "not the one" not in f"{caught.value!r} {caught.value.facts}"


def test_a_failed_signature_leaves_nothing(gpg_home: GpgHome, medium: MemoryMedium) -> None:
    accepts("gpgconf", "--homedir", gpg_home.path, "--kill", "gpg-agent")
    with pytest.raises(SigningError):
        signer(gpg_home, "not the one").sign(medium, FILE)
    assert medium.list("dist") == ["CHECKSUMS.txt"]


def test_a_missing_key_is_reported(gpg_home: GpgHome) -> None:
    with pytest.raises(SigningUnavailableError, match="no secret key"):
        GpgSigner("nobody@example.org", home=gpg_home.path).check()


def test_without_gpg_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SigningUnavailableError, match="apt-get install gpg"):
        GpgSigner("x").check()


def test_the_passphrase_is_in_no_argument(
    gpg_home: GpgHome, medium: MemoryMedium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("gpg")
    log = tmp_path / "log"
    wrapper = tmp_path / "gpg"
    real = accepts("sh", "-c", "command -v gpg").strip()
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nenv >> {log}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    signer(gpg_home).check()
    signer(gpg_home).sign(medium, FILE)
    said = log.read_text()
    assert "--passphrase-fd" in said
    assert gpg_home.passphrase not in said


def test_many_signatures_at_once(gpg_home: GpgHome) -> None:
    media = [MemoryMedium() for _ in range(6)]
    for number, medium in enumerate(media):
        medium.write_text(FILE, f"{number}\n")
    threads = [
        threading.Thread(target=signer(gpg_home).sign, args=(medium, FILE)) for medium in media
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for medium in media:
        verify_gpg(medium, FILE, home=gpg_home.path)


def test_a_tool_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid}; wait"
    with pytest.raises(TimeoutExpiredError, match=r"sh still ran after 0\.5 s"):
        run_tool(["sh", "-c", script], timeout=0.5)
    wait_gone(int(pid.read_text()))


def test_an_unread_pipe_does_not_block() -> None:
    with pipe_with(b"x" * (1 << 20)):
        pass
