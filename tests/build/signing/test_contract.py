"""What every signer promises, held to real tools where they can be, else to one that records."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_support import accepts, needs
from core_infra.build._config.settings import SigningSettings
from core_infra.build._errors import SigningError, SigningUnavailableError
from core_infra.build._secret import NO_SECRET, Secret
from core_infra.build._signing.choose import choose_signers
from core_infra.build._signing.gpg import GpgSigner
from core_infra.build._signing.macos import AppleNotary, CodesignSigner
from core_infra.build._signing.windows import OsslSigner, SigntoolSigner
from core_infra.medium import LocalMedium
from signing_programs import certificate, windows_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from build_support import GpgHome
    from core_infra.build._signing.signer import Signer

PASSWORD = "swordfish and plugh"  # noqa: S105 - of nothing
PROGRAM = "dist/app"
FAKED = ("codesign", "security", "ditto", "xcrun", "signtool")
IDENTITY = "Developer ID Application: Me (T1)"
THUMBPRINT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Subject:
    """A signer, and what of its tool tells of signing and of checking what was signed."""

    signer: Signer
    signing: str
    checking: str


@pytest.fixture
def medium(tmp_path: Path) -> LocalMedium:
    medium = LocalMedium(tmp_path)
    medium.write_bytes(PROGRAM, windows_program(), mode=0o755)
    return medium


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts fakes on PATH, and real tools behind a wrapper that can fail; all are written down."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = Path(__file__).parents[1] / "programs/signing_tool.py"
    fake = f"#!{sys.executable}\n" + program.read_text()
    for name in FAKED:
        (programs / name).write_text(fake)
    for name in ("gpg", "osslsigncode", "openssl"):
        real = shutil.which(name)
        script = f"""#!/bin/sh
printf '%s\\n' "$*" >> {tmp_path}/log
case "{name} $*" in *"$FAKE_FAIL"*) echo 'told to fail' >&2; exit 1;; esac
exec {real} "$@"
"""
        if real:
            (programs / name).write_text(script)
    for path in programs.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_PASSWORD", PASSWORD)
    monkeypatch.setenv("FAKE_FAIL", "never, never")
    return tmp_path / "log"


@pytest.fixture(params=["gpg", "osslsigncode", "codesign", "notarize", "signtool"])
def subject(request: pytest.FixtureRequest, tmp_path: Path, log: Path) -> Subject:
    del log
    secret = Secret(PASSWORD)
    makers: dict[str, Callable[[], Subject]] = {
        "gpg": lambda: _gpg(request.getfixturevalue("gpg_home")),
        "osslsigncode": lambda: _ossl(tmp_path),
        "codesign": lambda: Subject(CodesignSigner(IDENTITY), "--sign", "--verify"),
        "notarize": lambda: Subject(
            AppleNotary("me@example.org", "T1", secret), "notarytool submit", "notarytool submit"
        ),
        "signtool": lambda: Subject(SigntoolSigner(THUMBPRINT), "signtool sign", "signtool verify"),
    }
    return makers[request.param]()


def _gpg(home: GpgHome) -> Subject:
    passphrase = Secret(home.passphrase)
    signer = GpgSigner(home.address, passphrase=passphrase, home=home.path)
    return Subject(signer, "--detach-sign", "--verify")


def _ossl(directory: Path) -> Subject:
    needs("osslsigncode", "openssl")
    path = str(certificate(directory, PASSWORD))
    return Subject(OsslSigner(path, password=Secret(PASSWORD)), "sign -h", "verify")


def tree(medium: LocalMedium) -> dict[str, bytes]:
    return {name: medium.read_bytes(f"dist/{name}") for name in medium.list("dist")}


def test_check_says_what_it_signs_with(subject: Subject) -> None:
    assert subject.signer.check()


def test_without_its_tool_it_is_unavailable(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SigningUnavailableError, match="it is not on PATH") as caught:
        subject.signer.check()
    assert caught.value.todo


def test_what_it_signs_its_tool_accepts(subject: Subject, medium: LocalMedium, log: Path) -> None:
    made = subject.signer.sign(medium, PROGRAM)
    assert medium.is_file(made)
    assert subject.checking.split()[-1] in log.read_text()
    assert medium.stat(PROGRAM).mode == 0o755


def test_its_secret_is_in_no_argument(subject: Subject, medium: LocalMedium, log: Path) -> None:
    subject.signer.check()
    subject.signer.sign(medium, PROGRAM)
    said = log.read_text()
    assert PASSWORD not in said
    assert "correct horse" not in said


def test_a_failing_tool_is_reported_and_leaves_nothing(
    subject: Subject, medium: LocalMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(medium)
    monkeypatch.setenv("FAKE_FAIL", subject.signing)
    with pytest.raises(SigningError) as caught:
        subject.signer.sign(medium, PROGRAM)
    assert "told to fail" in str(caught.value)
    assert caught.value.exit_code == 1
    assert tree(medium) == before


def test_a_signature_that_its_tool_does_not_accept_is_none(
    subject: Subject, medium: LocalMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", subject.checking)
    with pytest.raises(SigningError):
        subject.signer.sign(medium, PROGRAM)
    assert not medium.exists(f"{PROGRAM}.asc")


def arguments(log: Path, tool: str) -> list[list[str]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line[0] == tool]


def test_codesign_is_asked_for_the_hardened_runtime(medium: LocalMedium, log: Path) -> None:
    CodesignSigner(IDENTITY).sign(medium, PROGRAM)
    path = medium.__repr__()[13:-2] + f"/{PROGRAM}"
    flags = ["--force", "--timestamp", "--options", "runtime", "--sign", IDENTITY]
    assert arguments(log, "codesign") == [
        ["codesign", *flags, path],
        ["codesign", "--verify", "--strict", "--verbose=2", path],
    ]


def test_an_identity_missing_from_the_keychain_is_reported(log: Path) -> None:
    del log
    with pytest.raises(SigningUnavailableError, match="no valid identity"):
        CodesignSigner("Developer ID Application: Other").check()


def test_a_bundle_gets_its_ticket(medium: LocalMedium, log: Path) -> None:
    medium.write_text("dist/My.app/Contents/Info.plist", "")
    AppleNotary("me@example.org", "T1", Secret(PASSWORD)).sign(medium, "dist/My.app")
    assert medium.read_text("dist/My.app/Contents/CodeResources") == "ticket"
    called = [line[:3] for line in arguments(log, "xcrun")]
    assert called == [
        ["xcrun", "notarytool", "submit"],
        ["xcrun", "stapler", "staple"],
        ["xcrun", "stapler", "validate"],
    ]


@pytest.mark.parametrize("status", ["Invalid", "In Progress", "Rejected"])
def test_what_apple_does_not_accept_is_an_error(
    medium: LocalMedium, log: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    del log
    monkeypatch.setenv("FAKE_STATUS", status)
    with pytest.raises(SigningError, match=status):
        AppleNotary("me@example.org", "T1", Secret(PASSWORD)).sign(medium, PROGRAM)


def test_a_wrong_apple_password_is_reported_but_not_shown(medium: LocalMedium, log: Path) -> None:
    del log
    with pytest.raises(SigningError, match="Invalid credentials") as caught:
        AppleNotary("me@example.org", "T1", Secret("not this")).sign(medium, PROGRAM)
    assert "not this" not in f"{caught.value} {caught.value.facts}"


def test_all_missing_parts_of_the_account_are_reported(log: Path) -> None:
    del log
    with pytest.raises(SigningUnavailableError, match="APPLE_ID, APPLE_APP_PASSWORD"):
        AppleNotary("", "T1", NO_SECRET).check()


def test_a_wrong_certificate_password_is_reported_before_the_build(tmp_path: Path) -> None:
    path = str(certificate(tmp_path, PASSWORD))
    with pytest.raises(SigningUnavailableError, match="Is its password right"):
        OsslSigner(path, password=Secret("no")).check()
    with pytest.raises(SigningUnavailableError, match=r"the certificate .* does not exist"):
        OsslSigner(str(tmp_path / "none.p12")).check()


def test_a_signed_program_that_was_changed_is_refused(tmp_path: Path, medium: LocalMedium) -> None:
    subject = _ossl(tmp_path)
    subject.signer.sign(medium, PROGRAM)
    path = tmp_path / PROGRAM
    verify = ["osslsigncode", "verify", "-CAfile", str(tmp_path / "cert.pem"), "-in", str(path)]
    accepts(*verify)
    data = bytearray(path.read_bytes())
    data[0x210] ^= 1
    path.write_bytes(data)
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0


def test_only_what_is_asked_for_is_signed() -> None:
    assert choose_signers(SigningSettings()).for_os("darwin") == ()
    whole = SigningSettings(
        gpg_key="A",
        macos_identity=IDENTITY,
        macos_notarize=True,
        windows_certificate="cert.p12",
    )
    chosen = choose_signers(whole)
    assert [one.name for one in chosen.for_os("darwin")] == ["codesign", "notarize"]
    assert [one.name for one in chosen.for_os("windows")] == ["osslsigncode"]
    assert [one.name for one in chosen.checksums] == ["gpg"]
    assert chosen.for_os("linux") == ()
    by_thumbprint = choose_signers(SigningSettings(windows_certificate=THUMBPRINT))
    assert [one.name for one in by_thumbprint.windows] == ["signtool"]
    assert choose_signers(SigningSettings(enabled=False, gpg_key="A")).checksums == ()
