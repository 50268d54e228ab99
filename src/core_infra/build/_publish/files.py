"""What is published: the files of a release, and its text on a forge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MARK = "<!-- core-infra: {} -->"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a release.

    Attributes:
        path: where it is.
        size: its size, in bytes.
        sha256: its SHA-256, in hexadecimal digits.
    """

    path: Path
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name on the forge."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class ForgeRelease:
    """A release to be made on a forge.

    Attributes:
        tag: its tag, which must exist there.
        commit: the commit that the tag must refer to.
        notes: its text, in Markdown.
        prerelease: whether it is marked as one.
        files: its files, the checksums last.
    """

    tag: str
    commit: str
    notes: str
    prerelease: bool
    files: Sequence[File]

    @property
    def mark(self) -> str:
        """Identifies the draft of exactly these files, invisible in its text."""
        return _MARK.format(self.files[-1].sha256)

    @property
    def content(self) -> dict[str, object]:
        """The fields of the release."""
        body = f"{self.notes.rstrip()}\n\n{self.mark}".lstrip()
        return {"name": self.tag, "body": body, "prerelease": self.prerelease}
