"""Signatures by a private key: openssl accepts them, and nothing else passes."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from build_support import accepts, needs
from core_infra.build import (
    KeySigner,
    SigningError,
    SigningUnavailableError,
    VerificationError,
    carry_out,
    make_plan,
    verify_key,
    verify_release,
)
from core_infra.build._artifact import host_target
from core_infra.build._secret import Secret
from core_infra.build._signing.key import verify_envelope
from core_infra.medium import LocalMedium

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = "swordfish"  # noqa: S105 - of nothing
FILE = "CHECKSUMS.txt"
TASKFILE = """
version: "3"
tasks:
  build:
    cmds:
      - echo "env $RELEASE_KEY$SIGNING_KEY_PASSPHRASE" >"$OUTPUT_DIR/app"
"""


def openssl(directory: Path, words: str) -> None:
    argv = ["openssl", *shlex.split(words)]
    subprocess.run(argv, check=True, capture_output=True, cwd=directory)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EC, encrypted and RSA keys, and one of a kind that is not possible."""
    needs("openssl")
    directory = tmp_path_factory.mktemp("keys")
    openssl(directory, "ecparam -genkey -name prime256v1 -noout -out ec.key")
    openssl(directory, f"pkcs8 -topk8 -in ec.key -passout pass:{PASSPHRASE} -out encrypted.key")
    openssl(directory, "genrsa -out rsa.key 2048")
    openssl(directory, "genpkey -algorithm ed25519 -out ed25519.key")
    for name in ("ec", "rsa"):
        openssl(directory, f"pkey -in {name}.key -pubout -out {name}.pub")
    return directory


@pytest.fixture
def medium(tmp_path: Path) -> LocalMedium:
    medium = LocalMedium(tmp_path)
    medium.write_text(FILE, "sums\n")
    return medium


@pytest.mark.parametrize("name", ["ec", "encrypted", "rsa", "environment"])
def test_openssl_and_our_own_check_accept_the_signature(
    name: str, keys: Path, medium: LocalMedium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = keys / ("rsa.pub" if name == "rsa" else "ec.pub")
    monkeypatch.setenv("RELEASE_KEY", (keys / "ec.key").read_text())
    key = "env://RELEASE_KEY" if name == "environment" else str(keys / f"{name}.key")
    signer = KeySigner(key, passphrase=Secret(PASSPHRASE if name == "encrypted" else ""))
    said = signer.check()
    signer.sign(medium, FILE)
    (tmp_path / "sig").write_bytes(base64.b64decode(medium.read_bytes(f"{FILE}.sig")))
    verify = ("dgst", "-sha256", "-verify", public, "-signature", "sig", FILE)
    accepts("openssl", *verify, cwd=tmp_path)
    medium.write_bytes("key.pub", public.read_bytes())
    assert verify_key(medium, FILE, key_file="key.pub") in said


def test_another_file_another_key_and_no_signature_are_refused(
    keys: Path, medium: LocalMedium
) -> None:
    KeySigner(str(keys / "ec.key")).sign(medium, FILE)
    for name in ("ec", "rsa"):
        medium.write_bytes(f"{name}.pub", (keys / f"{name}.pub").read_bytes())
    with pytest.raises(SigningError, match="another key"):
        verify_key(medium, FILE, key_file="rsa.pub")
    with pytest.raises(SigningError, match="has no public key"):
        verify_key(medium, FILE, key_file=FILE)
    medium.write_text(FILE, "other sums\n")
    with pytest.raises(SigningError, match="for another file"):
        verify_key(medium, FILE, key_file="ec.pub")
    for garbage in ("", "garbage!", "AAAA"):
        medium.write_text(f"{FILE}.sig", garbage)
        with pytest.raises((SigningError, VerificationError)):
            verify_key(medium, FILE, key_file="ec.pub")


def test_an_impossible_key_is_reported_before_the_build(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELEASE_KEY", raising=False)
    (tmp_path / "cosign.key").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    for key, passphrase, why in (
        (str(tmp_path / "none"), "", "No such file"),
        ("env://RELEASE_KEY", "", "is not set"),
        (str(keys / "ec.pub"), "", "no private key in PEM"),
        (str(keys / "encrypted.key"), "", "without a passphrase"),
        (str(keys / "encrypted.key"), "wrong", "SIGNING_KEY_PASSPHRASE"),
        (str(keys / "ed25519.key"), "", "prime256v1"),
        (str(tmp_path / "cosign.key"), "", "cosign's own format"),
    ):
        with pytest.raises(SigningUnavailableError, match=why) as caught:
            KeySigner(key, passphrase=Secret(passphrase)).check()
        assert "BEGIN" not in str(caught.value)


def test_a_release_by_a_key_is_verified_and_tampering_is_found(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEASE_KEY", (keys / "encrypted.key").read_text())
    monkeypatch.setenv("SIGNING_KEY_PASSPHRASE", PASSPHRASE)
    need("task")
    project = tmp_path / "app"
    (project / ".core").mkdir(parents=True)
    (project / ".core/build.yaml").write_text("sign:\n  key: env://RELEASE_KEY\n")
    (project / "Taskfile.yml").write_text(TASKFILE)
    plan = make_plan(project, goal="release", version="1.0", targets=[host_target()])
    assert [key.signs for key in plan.keys] == ["checksums"]

    package = carry_out(plan)

    assert package.program().read_text() == "env \n"
    names = [path.name for path in package.documents]
    assert names[-3:] == ["provenance.dsse.json", f"{FILE}.sig", FILE]
    medium, release = LocalMedium(), str(package.directory)
    envelope = package.directory / "provenance.dsse.json"
    statement = (package.directory / "provenance.intoto.json").read_bytes()
    assert base64.b64decode(json.loads(envelope.read_text())["payload"]) == statement
    public, other = str(keys / "ec.pub"), str(keys / "rsa.pub")
    notes = [one.note for one in verify_release(medium, release, key_file=public).checks]
    assert sum(note.startswith("key ") for note in notes) == 2, "of the checksums, of the envelope"
    verify_release(medium, release)  # without the key
    with pytest.raises(VerificationError, match="another key"):
        verify_release(medium, release, key_file=other)
    signature = package.directory / f"{FILE}.sig"
    text = signature.read_text()
    signature.write_text("garbage")
    with pytest.raises(VerificationError, match="it is not base64"):
        verify_release(medium, release)
    signature.unlink()
    with pytest.raises(VerificationError, match="signature: there is none"):
        verify_release(medium, release, key_file=public)
    signature.write_text(text)
    os.truncate(package.directory / FILE, 70)
    with pytest.raises(VerificationError, match="for another file"):
        verify_release(medium, release, key_file=public)


@pytest.mark.parametrize(
    "envelope",
    [
        "garbage",
        "[]",
        '{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        '{"payload": "e30=", "payloadType": "text", "signatures": [{"sig": "AAAA"}]}',
        '{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [1]}',
    ],
)
def test_what_is_no_envelope_is_refused(medium: LocalMedium, envelope: str) -> None:
    medium.write_text("statement", "{}")
    medium.write_text("envelope", envelope)
    with pytest.raises(VerificationError, match="is not a signed statement"):
        verify_envelope(medium, "envelope", payload="statement")


def test_an_envelope_of_another_statement_or_key_is_refused(
    keys: Path, medium: LocalMedium
) -> None:
    medium.write_text("statement", '{"a": 1}')
    medium.write_bytes("rsa.pub", (keys / "rsa.pub").read_bytes())
    KeySigner(str(keys / "ec.key")).attest(medium, "statement", "envelope")
    assert verify_envelope(medium, "envelope", payload="statement") == ""
    with pytest.raises(SigningError, match="another key"):
        verify_envelope(medium, "envelope", payload="statement", key_file="rsa.pub")
    medium.write_text("statement", '{"a": 2}')
    with pytest.raises(VerificationError, match="something else"):
        verify_envelope(medium, "envelope", payload="statement")
