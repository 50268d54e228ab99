"""What goes wrong between a project's directory and a release that others can check."""

from __future__ import annotations

from core_infra._yaml.mistakes import InvalidFileError
from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)


class ConfigError(InvalidFileError):
    """A build configuration, or a file in which a project describes itself, has mistakes.

    Attributes:
        path: the file.
        mistakes: all of them.
        file, line, column, field, expected: those of the first mistake.
    """


class ArtifactError(InvalidError):
    """An artifact cannot be what it says: an empty path, a directory where a file is expected."""


class ArtifactMissingError(NotFoundError):
    """There is nothing at an artifact's path."""


class ArchiveError(InvalidError):
    """A file is not the archive that its name says, or is damaged."""


class ChecksumError(InvalidError):
    """A checksum is missing, malformed, or not that of the file."""


class VerificationError(InvalidError):
    """A release is not what its checksums, manifest or signature say.

    Attributes:
        problems: every problem found, one line each.
    """


class ToolMissingError(UnavailableError):
    """A program or package that this step needs is not installed.

    Attributes:
        tool: its name.
    """


class SigningUnavailableError(UnavailableError):
    """Signing was asked for and cannot be done here: no tool, no key, no certificate."""


class SigningError(CommandFailedError):
    """The signer's tool failed, or does not accept the signature that it made."""


class BuildFailedError(CommandFailedError):
    """A program of a build failed; no artifact of this build is left.

    Attributes:
        step: the target that it worked on, and its place among the programs.
    """


class PreflightError(UnavailableError):
    """A build cannot work here, and so was not begun.

    Attributes:
        problems: all that is known to be missing or wrong, one sentence each.
    """

    @classmethod
    def of(cls, project: object, problems: tuple[str, ...], *, todo: str = "") -> PreflightError:
        """Make the error that tells all problems."""
        why = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems])
        return cls(f"{project} cannot be built here", why=why, todo=todo, problems=problems)
