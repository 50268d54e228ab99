from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.build._archives.archive import archive, archive_all
from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import checksum_all, write_checksum_file
from core_infra.build._documents.lock_files.dependency import Dependency
from core_infra.build._documents.manifest import write_manifest
from core_infra.build._documents.provenance import write_provenance
from core_infra.build._documents.sbom import write_sbom
from core_infra.build._errors import VerificationError
from core_infra.build._secret import Secret
from core_infra.build._signing.gpg import GpgSigner
from core_infra.build._verify import verify_release
from core_infra.errors import NotFoundError
from core_infra.medium import MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Callable

    from build_support import GpgHome

APP = Artifact("dist/linux_amd64/app", "linux", "amd64")
EXE = Artifact("dist/windows_amd64/app.exe", "windows", "amd64")
ARCHIVE = "app_linux_amd64.tar.gz"


def release() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_bytes(APP.path, b"program" * 1000, mode=0o755)
    medium.write_bytes(EXE.path, b"MZ" * 1000)
    seal(medium, archive_all(medium, [APP, EXE]))
    return medium


def seal(medium: MemoryMedium, made: list[Artifact]) -> None:
    write_manifest(medium, made, "dist/manifest.json", name="app", version="1.0")
    packages = [Dependency("npm", "@a/b", "1.0.0")]
    write_sbom(
        medium,
        "dist/sbom.cdx.json",
        name="app",
        version="1.0",
        artifacts=made,
        dependencies=packages,
        epoch=0,
    )
    write_provenance(medium, made, "dist/provenance.intoto.json", builder="https://ci", epoch=0)
    write_sums(medium, made)


def write_sums(medium: MemoryMedium, made: list[Artifact]) -> None:
    names = ("manifest.json", "sbom.cdx.json", "provenance.intoto.json")
    papers = checksum_all(medium, [Artifact(f"dist/{name}") for name in names])
    write_checksum_file(medium, [*made, *papers], "dist/CHECKSUMS.txt")


def problems(
    medium: MemoryMedium, *, home: str = "", signed: bool = False, repacked: bool = False
) -> list[str]:
    with pytest.raises(VerificationError) as caught:
        verify_release(medium, "dist", home=home, require_signature=signed, repacked=repacked)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    found: list[str] = caught.value.problems
    return found


def test_a_good_release_is_good_and_everything_was_looked_at() -> None:
    report = verify_release(release(), "dist")
    assert report.problems == []
    seen = {(one.name, one.what) for one in report.checks if not one.skipped}
    assert seen == {
        (ARCHIVE, "checksum"),
        (ARCHIVE, "content"),
        ("app_windows_amd64.zip", "checksum"),
        ("app_windows_amd64.zip", "content"),
        ("manifest.json", "checksum"),
        ("sbom.cdx.json", "checksum"),
        ("sbom.cdx.json", "sbom"),
        ("provenance.intoto.json", "checksum"),
        ("provenance.intoto.json", "provenance"),
    }
    assert [one.what for one in report.checks if one.skipped] == ["signature"]


def test_every_problem_is_reported_at_once() -> None:
    medium = release()
    data = bytearray(medium.read_bytes(f"dist/{ARCHIVE}"))
    data[-1] ^= 1
    medium.write_bytes(f"dist/{ARCHIVE}", bytes(data))
    medium.delete("dist/app_windows_amd64.zip")
    medium.write_text("dist/extra.tar.gz", "")
    found = problems(medium)
    assert [one.split(": ")[0] for one in found] == [
        ARCHIVE,
        "app_windows_amd64.zip",
        "extra.tar.gz",
    ]
    assert found[1].endswith("it is missing")
    assert found[2].endswith("it is not in CHECKSUMS.txt")


def test_without_checksums_nothing_is_good() -> None:
    medium = release()
    medium.delete("dist/CHECKSUMS.txt")
    assert problems(medium) == ["CHECKSUMS.txt: checksum: the file is missing"]


def test_malformed_checksums_are_a_problem() -> None:
    medium = release()
    medium.write_text("dist/CHECKSUMS.txt", "x  y\n")
    assert "expected 64 hexadecimal digits" in problems(medium)[0]


def test_no_directory_is_another_error() -> None:
    with pytest.raises(NotFoundError):
        verify_release(MemoryMedium(), "no")


def test_what_was_not_downloaded_may_be_missing_if_asked() -> None:
    medium = release()
    for name in ("app_windows_amd64.zip", "manifest.json", "sbom.cdx.json"):
        medium.delete(f"dist/{name}")
    report = verify_release(medium, "dist", partial=True)
    assert [one.name for one in report.checks if one.what == "checksum" and one.skipped] == [
        "app_windows_amd64.zip",
        "manifest.json",
        "sbom.cdx.json",
    ]


def test_an_archive_that_is_packed_otherwise_is_good_if_asked() -> None:
    medium = release()
    archive(medium, APP, profile="fast")
    assert "packed differently, with the same content" in problems(medium)[0]
    report = verify_release(medium, "dist", repacked=True)
    assert any("packed differently" in one.note for one in report.checks)
    medium.write_bytes(APP.path, b"another" * 1000, mode=0o755)
    archive(medium, APP, profile="fast")
    assert len(problems(medium, repacked=True)) == 1


def test_a_manifest_that_disagrees_is_a_problem() -> None:
    medium = release()
    made = archive_all(medium, [APP, EXE])
    wrong = [Artifact(made[0].path, checksum="0" * 64), made[1]]
    write_manifest(medium, wrong, "dist/manifest.json")
    write_sums(medium, made)
    assert problems(medium) == [f"{ARCHIVE}: manifest: manifest.json and CHECKSUMS.txt disagree"]


def test_a_manifest_of_other_contents_is_a_problem() -> None:
    medium = release()
    made = archive_all(medium, [APP, EXE])
    wrong = [Artifact(made[0].path, checksum=made[0].checksum, content="1" * 64), made[1]]
    write_manifest(medium, wrong, "dist/manifest.json")
    write_sums(medium, made)
    assert problems(medium)[0].startswith(f"{ARCHIVE}: content: it is ")


def test_papers_of_another_release_are_a_problem() -> None:
    medium = release()
    made = archive_all(medium, [APP, EXE])
    other = [Artifact(made[0].path, checksum="0" * 64)]
    write_provenance(medium, other, "dist/provenance.intoto.json", builder="https://ci")
    medium.write_text("dist/sbom.cdx.json", '{"bomFormat": "SPDX"}')
    write_sums(medium, made)
    found = problems(medium)
    assert found[0].startswith(
        f"provenance.intoto.json: provenance: it has another digest of {ARCHIVE}"
    )
    assert found[1] == "sbom.cdx.json: sbom: it is not CycloneDX"


@pytest.mark.parametrize("text", ["", "[]", "3", '{"_type": "x"}', "[" * 10_000])
def test_papers_that_cannot_be_read_are_a_problem(text: str) -> None:
    medium = release()
    made = archive_all(medium, [APP, EXE])
    for name in ("provenance.intoto.json", "sbom.cdx.json", "manifest.json"):
        medium.write_text(f"dist/{name}", text)
    write_sums(medium, made)
    assert len(problems(medium)) == 3


def test_a_signature_is_checked_and_tampering_fails(gpg_home: GpgHome) -> None:
    medium = release()
    phrase = Secret(gpg_home.passphrase)
    signer = GpgSigner(gpg_home.address, passphrase=phrase, home=gpg_home.path)
    assert signer.sign(medium, "dist/CHECKSUMS.txt") == "dist/CHECKSUMS.txt.asc"
    medium.write_bytes("key.asc", gpg_home.public_key)
    report = verify_release(medium, "dist", key_file="key.asc")
    assert gpg_home.address in report.checks[0].note
    # An attacker can replace every file, and all sums with them, but not the signature.
    medium.write_bytes(APP.path, b"malware" * 1000, mode=0o755)
    seal(medium, archive_all(medium, [APP, EXE]))
    found = problems(medium, home=gpg_home.path)
    assert len(found) == 1
    assert "signature" in found[0]
    assert "BAD signature" in found[0]


def test_a_required_signature_that_is_not_there_is_a_problem() -> None:
    medium = release()
    assert "one is required" in problems(medium, signed=True)[0]
    medium.write_text("key.asc", "")
    with pytest.raises(VerificationError, match="one is required"):
        verify_release(medium, "dist", key_file="key.asc")


def test_provenance_and_bill_of_materials_are_the_same_every_time() -> None:
    one, other = release(), release()
    for name in ("provenance.intoto.json", "sbom.cdx.json", "manifest.json"):
        assert one.read_bytes(f"dist/{name}") == other.read_bytes(f"dist/{name}")


def test_the_provenance_is_an_in_toto_statement() -> None:
    data = json.loads(release().read_bytes("dist/provenance.intoto.json"))
    assert data["_type"] == "https://in-toto.io/Statement/v1"
    assert data["predicateType"] == "https://slsa.dev/provenance/v1"
    assert [one["name"] for one in data["subject"]] == [ARCHIVE, "app_windows_amd64.zip"]
    assert data["predicate"]["runDetails"]["builder"] == {"id": "https://ci"}
    assert data["predicate"]["runDetails"]["metadata"] == {"finishedOn": "1970-01-01T00:00:00Z"}
    assert {"buildType", "externalParameters"} <= data["predicate"]["buildDefinition"].keys()


def change(medium: MemoryMedium, name: str, edit: Callable[[Any], object]) -> None:
    """Change a document, and the checksums with it."""
    data = json.loads(medium.read_text(f"dist/{name}"))
    edit(data)
    medium.write_text(f"dist/{name}", json.dumps(data))
    names = [ARCHIVE, "app_windows_amd64.zip"]
    write_sums(medium, checksum_all(medium, [Artifact(f"dist/{one}") for one in names]))


@pytest.mark.parametrize(
    ("name", "edit", "why"),
    [
        ("provenance.intoto.json", lambda it: it.update(subject=[]), "does not cover app_linux"),
        ("provenance.intoto.json", lambda it: it["subject"].pop(), "does not cover app_windows"),
        ("manifest.json", lambda it: it.update(artifacts=[]), "does not list app_linux"),
        ("manifest.json", lambda it: it["artifacts"][0].update(size=1), "its size is"),
        ("manifest.json", lambda it: it.update(version="6"), "manifest.json has version '6'"),
        (
            "sbom.cdx.json",
            lambda it: it["metadata"]["component"].update(version="6"),
            "sbom.cdx.json has version '6'",
        ),
        (
            "sbom.cdx.json",
            lambda it: [
                one.update(content="0" * 64)
                for part in it["components"]
                for one in part.get("hashes", [])
            ],
            "another digest of app_linux",
        ),
        (
            "sbom.cdx.json",
            lambda it: it["components"].remove(
                next(one for one in it["components"] if one["name"] == ARCHIVE)
            ),
            "does not list app_linux",
        ),
    ],
)
def test_documents_of_another_release_are_refused(
    name: str, edit: Callable[[Any], object], why: str
) -> None:
    medium = release()
    change(medium, name, edit)
    (problem,) = problems(medium)
    assert why in problem


def test_an_empty_release_is_refused() -> None:
    medium = MemoryMedium()
    medium.write_text("dist/CHECKSUMS.txt", "")
    assert problems(medium) == ["CHECKSUMS.txt: checksum: it lists no file"]
    medium.write_text("dist/CHECKSUMS.txt", f"{'0' * 64}  app\n")
    with pytest.raises(VerificationError, match="none of the listed files is there"):
        verify_release(medium, "dist", partial=True)


def bundle(content: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    message = {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": "AA=="}
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    material = {"certificate": {"rawBytes": "AA=="}}
    return json.dumps(
        {"mediaType": kind, "verificationMaterial": material, "messageSignature": message}
    )


def test_a_sigstore_bundle_must_be_one_of_these_checksums() -> None:
    medium = release()
    path = "dist/CHECKSUMS.txt.sigstore.json"
    for text, why in (
        ("garbage", "not a bundle"),
        ("{}", "not a bundle"),
        ("[" * 100_000, "not a bundle"),
        (bundle(b"other"), "it signs another file"),
    ):
        medium.write_text(path, text)
        (problem,) = problems(medium)
        assert why in problem
    medium.write_text(path, bundle(medium.read_bytes("dist/CHECKSUMS.txt")))
    assert verify_release(medium, "dist").problems == []
