"""Verifies a release directory, as a downloader would."""

from __future__ import annotations

import functools
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.build._archives.contents import hash_file
from core_infra.build._archives.reader import archive_content, is_archive
from core_infra.build._documents.checksums import CHECKSUMS, read_checksum_file
from core_infra.build._documents.manifest import MANIFEST, ManifestEntry, read_manifest
from core_infra.build._documents.provenance import ENVELOPE, PROVENANCE
from core_infra.build._documents.sbom import SBOM
from core_infra.build._errors import VerificationError
from core_infra.build._papers import (
    VERSIONED,
    check_manifest_names,
    check_provenance,
    check_sbom,
    check_versions,
)
from core_infra.build._signing.gpg import EXTENSION as GPG_EXTENSION
from core_infra.build._signing.gpg import verify_gpg
from core_infra.build._signing.key import EXTENSION as KEY_EXTENSION
from core_infra.build._signing.key import (
    PUBLIC_KEY,
    read_signature,
    verify_envelope,
    verify_key,
)
from core_infra.build._signing.sigstore import EXTENSION as SIGSTORE_EXTENSION
from core_infra.build._signing.sigstore import check_bundle, verify_sigstore
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.medium._medium import Medium

_UNLISTED = {
    CHECKSUMS,
    CHECKSUMS + GPG_EXTENSION,
    CHECKSUMS + KEY_EXTENSION,
    CHECKSUMS + SIGSTORE_EXTENSION,
}
"""Files that the checksums cannot list: the checksums themselves and their signatures."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a release.

    Attributes:
        name: the file.
        what: signature, checksum, listed, manifest, content, sbom or provenance.
        why: the problem; empty if there is none.
        note: further information.
        skipped: whether the file is missing, so that it was not checked.
    """

    name: str
    what: str
    why: str = ""
    note: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The checks of a release directory, in order.

    Attributes:
        checks: the checks.
    """

    checks: tuple[Check, ...] = ()

    @property
    def problems(self) -> list[str]:
        """All problems, one line each."""
        return [f"{one.name}: {one.what}: {one.why}" for one in self.checks if one.why]


def verify_release(
    medium: Medium,
    directory: str,
    *,
    key_file: str = "",
    home: str = "",
    require_signature: bool = False,
    identity: str = "",
    issuer: str = "",
    partial: bool = False,
    repacked: bool = False,
) -> VerificationReport:
    """Check all files of a release directory: signature, checksums, manifest, SBOM, provenance.

    Subdirectories are ignored. All problems are collected before the error is raised.

    Args:
        medium: where the directory is.
        directory: the release directory, with its CHECKSUMS.txt.
        key_file: the only public key to accept, an OpenPGP one or one in PEM; by default those of
            gpg's keyring are accepted. With a key file, a signature is required.
        home: GnuPG's directory; by default its usual one.
        require_signature: whether a release without a signature is a problem.
        identity: the identity that must have signed the release by sigstore: an email address, or
            the URI of a CI workflow.
        issuer: the URL of its identity provider.
        partial: whether listed files may be missing, as after downloading only some of them.
        repacked: whether an archive may differ from its checksum if its content matches the
            manifest: for rebuilds with a newer compressor.

    Returns:
        All checks.

    Raises:
        VerificationError: there are problems; it has ``problems`` and the ``report``.
        CoreInfraError: the directory does not exist or cannot be read.
    """
    release = _Release(medium, directory, partial=partial, repacked=repacked)
    if not medium.is_file(release.path(CHECKSUMS)):
        release.add(CHECKSUMS, "checksum", "the file is missing")
    else:
        is_pem = bool(key_file) and PUBLIC_KEY in medium.read_bytes(key_file)
        pem = key_file if is_pem else ""
        release.check_key_signature(pem)
        if not pem:
            required = (require_signature and not identity) or bool(key_file)
            release.check_signature(key_file, home, required=required)
        release.check_bundle(identity, issuer)
        release.check_files(pem)
    report = VerificationReport(tuple(release.checks))
    if report.problems:
        raise VerificationError(
            f"verification of the release {directory!r} failed",
            why="\n  ".join(["", *report.problems]) if report.problems[1:] else report.problems[0],
            todo="Do not use it; download it again, or ask its publisher.",
            problems=report.problems,
            report=report,
        )
    return report


def _line(error: CoreInfraError) -> str:
    words = f"{error.why or error.what} {error.todo}".split("\n")
    return "; ".join(word.strip() for word in words if word.strip())


class _Release:
    def __init__(self, medium: Medium, directory: str, *, partial: bool, repacked: bool) -> None:
        self.checks: list[Check] = []
        self._medium = medium
        self._directory = directory
        self._partial = partial
        self._repacked = repacked
        self._names = [
            name for name in medium.list(directory) if not medium.is_dir(self.path(name))
        ]

    def path(self, name: str) -> str:
        return posixpath.join(self._directory, name)

    def add(self, name: str, what: str, why: str = "", note: str = "") -> None:
        self.checks.append(Check(name, what, why, note))

    def check_bundle(self, identity: str, issuer: str) -> None:
        """Check the signature by sigstore; without an identity, only that it is of these files."""
        name = CHECKSUMS + SIGSTORE_EXTENSION
        if name not in self._names:
            if identity:
                self._add_missing(name, "signature", "not signed", "there is none")
            return

        def check() -> str:
            check_bundle(self._medium, self.path(CHECKSUMS))
            if not identity:
                return "by sigstore; give --identity and --issuer to check who signed"
            verify_sigstore(self._medium, self.path(CHECKSUMS), identity=identity, issuer=issuer)
            return f"{identity}, according to {issuer}"

        self._attempt(name, "signature", check)

    def check_key_signature(self, key_file: str) -> None:
        """Check the signature by a key; without the public key, only that it is a signature."""
        name = CHECKSUMS + KEY_EXTENSION
        if name not in self._names:
            if key_file:
                self._add_missing(name, "signature", "not signed", "there is none")
            return

        def check() -> str:
            if key_file:
                checksums = self.path(CHECKSUMS)
                return f"key {verify_key(self._medium, checksums, key_file=key_file)}"
            read_signature(self._medium, self.path(CHECKSUMS))
            return "by a key; give the public one as --key to check whose"

        self._attempt(name, "signature", check)

    def check_signature(self, key_file: str, home: str, *, required: bool) -> None:
        name = CHECKSUMS + GPG_EXTENSION
        if name not in self._names:
            why = "there is none, and one is required" if required else ""
            self._add_missing(name, "signature", "not signed", why)
            return

        def check() -> str:
            checksums = self.path(CHECKSUMS)
            good = verify_gpg(self._medium, checksums, key_file=key_file, home=home)
            return f"{good.user}, key {good.primary}"

        self._attempt(name, "signature", check)

    def check_files(self, key_file: str) -> None:
        try:
            sums = read_checksum_file(self._medium, self.path(CHECKSUMS))
        except CoreInfraError as error:
            self.add(CHECKSUMS, "checksum", _line(error))
            return
        found = {name: self._digest(name) for name in sums if name in self._names}
        listed = self._manifest(sums, found)
        for name, expected in sums.items():
            self._check_file(name, expected, found.get(name, ""), listed.get(name))
        for name in self._names:
            if name not in sums and name not in _UNLISTED:
                self.add(name, "listed", f"it is not in {CHECKSUMS}")
        self._check_papers(sums, found, key_file)
        if not sums:
            self.add(CHECKSUMS, "checksum", "it lists no file")
        elif not any(found.values()):
            self.add(CHECKSUMS, "checksum", "none of the listed files is there")

    def _check_papers(self, sums: dict[str, str], found: dict[str, str], key_file: str) -> None:
        if found.get(PROVENANCE):
            path = self.path(PROVENANCE)
            check = functools.partial(check_provenance, self._medium, path, sums)
            self._attempt(PROVENANCE, "provenance", check)
        if found.get(ENVELOPE):
            self._attempt(ENVELOPE, "provenance", lambda: self._check_envelope(key_file))
        if found.get(SBOM):
            check = functools.partial(check_sbom, self._medium, self.path(SBOM), sums)
            self._attempt(SBOM, "sbom", check)
        documents = {name: self.path(name) for name in sorted(VERSIONED) if found.get(name)}
        if why := check_versions(self._medium, documents):
            self.add(MANIFEST if MANIFEST in documents else SBOM, "version", why)

    def _check_envelope(self, key_file: str) -> str:
        path, payload = self.path(ENVELOPE), self.path(PROVENANCE)
        key = verify_envelope(self._medium, path, payload=payload, key_file=key_file)
        return f"key {key}" if key else ""

    def _add_missing(self, name: str, what: str, note: str, why: str) -> None:
        self.checks.append(Check(name, what, why, note, skipped=True))

    def _attempt(self, name: str, what: str, check: Callable[[], str]) -> None:
        """Record a check that raises if it fails, and otherwise returns a note."""
        try:
            note = check()
        except CoreInfraError as error:
            self.add(name, what, _line(error))
        else:
            self.add(name, what, note=note)

    def _digest(self, name: str) -> str:
        with self._medium.open(self.path(name)) as file:
            return hash_file(file)

    def _manifest(self, sums: dict[str, str], found: dict[str, str]) -> dict[str, ManifestEntry]:
        """The entries of the manifest, if the manifest matches the checksums."""
        if MANIFEST not in found or found[MANIFEST] != sums[MANIFEST]:
            return {}
        try:
            listed = {one.name: one for one in read_manifest(self._medium, self.path(MANIFEST))}
        except CoreInfraError as error:
            self.add(MANIFEST, "manifest", _line(error))
            return {}
        for name, one in listed.items():
            if sums.get(name) != one.sha256:
                self.add(name, "manifest", f"{MANIFEST} and {CHECKSUMS} disagree")
            elif found.get(name) == one.sha256:
                size = self._medium.stat(self.path(name)).size
                if size != one.size:
                    self.add(name, "manifest", f"its size is {size}, not {one.size}")
        if why := check_manifest_names(listed, sums):
            self.add(MANIFEST, "manifest", why)
        return listed

    def _check_file(
        self, name: str, expected: str, found: str, listed: ManifestEntry | None
    ) -> None:
        if not found:
            why = "" if self._partial else "it is missing"
            self._add_missing(name, "checksum", "not there", why)
            return
        content = listed.content if listed else ""
        problem = self._content_problem(name, content) if content and is_archive(name) else ""
        if found == expected:
            self.add(name, "checksum")
            if content:
                self.add(name, "content", problem)
            return
        is_repacked = bool(content) and not problem
        note = "packed differently, with the same content" if is_repacked else ""
        why = f"it is {found}, not {expected}"
        if is_repacked:
            why = "" if self._repacked else f"{why}; {note}"
        self.add(name, "checksum", why, note)

    def _content_problem(self, name: str, expected: str) -> str:
        try:
            found = archive_content(self._medium, self.path(name))
        except CoreInfraError as error:
            return _line(error)
        return "" if found == expected else f"it is {found}, not {expected}"
