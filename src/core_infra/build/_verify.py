"""Checking a release directory as somebody who has downloaded it would."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.build._archives.contents import hash_file
from core_infra.build._archives.reader import archive_content, is_archive
from core_infra.build._documents.checksums import CHECKSUMS, read_checksum_file
from core_infra.build._documents.manifest import MANIFEST, Listed, read_manifest
from core_infra.build._documents.provenance import PROVENANCE, read_subjects
from core_infra.build._documents.sbom import SBOM
from core_infra.build._errors import VerificationError
from core_infra.build._signing.gpg import EXTENSION as GPG_EXTENSION
from core_infra.build._signing.gpg import verify_gpg
from core_infra.build._signing.sigstore import EXTENSION as SIGSTORE_EXTENSION
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.medium._medium import Medium

_UNLISTED = {CHECKSUMS, CHECKSUMS + GPG_EXTENSION, CHECKSUMS + SIGSTORE_EXTENSION}
"""What cannot be in the checksums, because it is they or signs them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: the file.
        what: signature, checksum, listed, manifest, content, sbom or provenance.
        why: what is wrong; empty if nothing is.
        note: what else there is to say.
        skipped: whether there was nothing to look at.
    """

    name: str
    what: str
    why: str = ""
    note: str = ""
    skipped: bool = False


@dataclass(slots=True)
class Report:
    """What was looked at in a release directory, in order."""

    checks: list[Check] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        return [f"{one.name}: {one.what}: {one.why}" for one in self.checks if one.why]

    def add(self, name: str, what: str, why: str = "", note: str = "") -> None:
        """Take down one thing that was looked at."""
        self.checks.append(Check(name, what, why, note))

    def add_missing(self, name: str, what: str, note: str, why: str) -> None:
        """Take down one thing that is not there, which is wrong if there is a *why*."""
        self.checks.append(Check(name, what, why, note, skipped=True))

    def attempt(self, name: str, what: str, check: Callable[[], str]) -> None:
        """Make a check that raises if something is wrong, and returns a note."""
        try:
            note = check()
        except CoreInfraError as error:
            self.add(name, what, _line(error))
        else:
            self.add(name, what, note=note)


def verify_release(
    medium: Medium,
    directory: str,
    *,
    key_file: str = "",
    home: str = "",
    require_signature: bool = False,
    partial: bool = False,
    repacked: bool = False,
) -> Report:
    """Check all files of a release directory: signature, checksums, manifest, SBOM, provenance.

    Directories in it are not looked into. Every problem is found before the error is raised.

    Args:
        medium: where the directory is.
        directory: the release directory, with its CHECKSUMS.txt.
        key_file: the signer's public key, the only one to accept; by default those of gpg's
            keyring are. With it, a signature is required.
        home: GnuPG's directory; by default its usual one.
        require_signature: whether a release without a signature is a problem.
        partial: whether files that are listed may be missing, as after downloading one of many.
        repacked: whether an archive may be of other bytes than its checksum says, as long as its
            contents are those that the manifest says: for rebuilds with a newer compressor.

    Returns:
        What was looked at.

    Raises:
        VerificationError: something is wrong; carries ``problems`` and the ``report``.
        CoreInfraError: there is no directory, or it cannot be read.
    """
    report = Report()
    release = _Release(medium, directory, report, partial=partial, repacked=repacked)
    if not medium.is_file(release.path(CHECKSUMS)):
        report.add(CHECKSUMS, "checksum", "there is no such file")
    else:
        release.check_signature(key_file, home, required=require_signature or bool(key_file))
        release.check_files()
    if report.problems:
        raise VerificationError(
            f"the release {directory!r} is not what it should be",
            why="\n".join(["", *report.problems]),
            todo="Do not use it; download it again, or ask who made it.",
            problems=report.problems,
            report=report,
        )
    return report


def _line(error: CoreInfraError) -> str:
    words = f"{error.why or error.what} {error.todo}".split("\n")
    return "; ".join(word.strip() for word in words if word.strip())


class _Release:
    def __init__(
        self, medium: Medium, directory: str, report: Report, *, partial: bool, repacked: bool
    ) -> None:
        self._medium = medium
        self._directory = directory
        self._report = report
        self._partial = partial
        self._repacked = repacked
        self._names = [
            name for name in medium.list(directory) if not medium.is_dir(self.path(name))
        ]

    def path(self, name: str) -> str:
        return posixpath.join(self._directory, name)

    def check_signature(self, key_file: str, home: str, *, required: bool) -> None:
        name = CHECKSUMS + GPG_EXTENSION
        if name not in self._names:
            why = "there is none, and one is required" if required else ""
            self._report.add_missing(name, "signature", "not signed", why)
            return

        def check() -> str:
            checksums = self.path(CHECKSUMS)
            good = verify_gpg(self._medium, checksums, key_file=key_file, home=home)
            return f"{good.user}, key {good.primary}"

        self._report.attempt(name, "signature", check)

    def check_files(self) -> None:
        try:
            sums = read_checksum_file(self._medium, self.path(CHECKSUMS))
        except CoreInfraError as error:
            self._report.add(CHECKSUMS, "checksum", _line(error))
            return
        found = {name: self._digest(name) for name in sums if name in self._names}
        listed = self._manifest(sums, found)
        for name, expected in sums.items():
            self._check_file(name, expected, found.get(name, ""), listed.get(name))
        for name in self._names:
            if name not in sums and name not in _UNLISTED:
                self._report.add(name, "listed", f"it is not in {CHECKSUMS}")
        if found.get(PROVENANCE):
            self._report.attempt(PROVENANCE, "provenance", lambda: self._check_provenance(sums))
        if found.get(SBOM):
            self._report.attempt(SBOM, "sbom", self._check_sbom)

    def _digest(self, name: str) -> str:
        with self._medium.open(self.path(name)) as file:
            return hash_file(file)

    def _manifest(self, sums: dict[str, str], found: dict[str, str]) -> dict[str, Listed]:
        """What the manifest says of each file, if it is the one that the checksums speak of."""
        if MANIFEST not in found or found[MANIFEST] != sums[MANIFEST]:
            return {}
        try:
            listed = {one.name: one for one in read_manifest(self._medium, self.path(MANIFEST))}
        except CoreInfraError as error:
            self._report.add(MANIFEST, "manifest", _line(error))
            return {}
        for name, one in listed.items():
            if sums.get(name) != one.sha256:
                self._report.add(name, "manifest", f"{MANIFEST} and {CHECKSUMS} disagree")
        return listed

    def _check_file(self, name: str, expected: str, found: str, listed: Listed | None) -> None:
        if not found:
            why = "" if self._partial else "it is missing"
            self._report.add_missing(name, "checksum", "not there", why)
            return
        content = listed.content if listed else ""
        problem = self._content_problem(name, content) if content and is_archive(name) else ""
        if found == expected:
            self._report.add(name, "checksum")
            if content:
                self._report.add(name, "content", problem)
            return
        is_repacked = bool(content) and not problem
        note = "packed otherwise, the contents are the same" if is_repacked else ""
        why = f"it is {found}, not {expected}"
        if is_repacked:
            why = "" if self._repacked else f"{why}; {note}"
        self._report.add(name, "checksum", why, note)

    def _content_problem(self, name: str, expected: str) -> str:
        try:
            found = archive_content(self._medium, self.path(name))
        except CoreInfraError as error:
            return _line(error)
        return "" if found == expected else f"it is {found}, not {expected}"

    def _check_provenance(self, sums: dict[str, str]) -> str:
        subjects = read_subjects(self._medium, self.path(PROVENANCE))
        for name, digest in subjects.items():
            if sums.get(name) != digest:
                raise VerificationError(
                    PROVENANCE, why=f"it speaks of another {name}: {digest}", problems=[]
                )
        return f"speaks of {len(subjects)} artifacts"

    def _check_sbom(self) -> str:
        try:
            data = json.loads(self._medium.read_bytes(self.path(SBOM)))
            count = len(data.get("components", []))
            if data["bomFormat"] != "CycloneDX":
                raise VerificationError(SBOM, why="it is not CycloneDX", problems=[])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, CoreInfraError):
                raise
            raise VerificationError(
                SBOM, why=f"it is no CycloneDX: {error}", problems=[]
            ) from error
        return f"{count} components"
