"""What goes wrong between a project's directory and a release that others can check."""

from __future__ import annotations

from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)


class ConfigError(InvalidError):
    """A build configuration is not of the form that it must have.

    Attributes:
        file: the configuration's path.
        line: the line of the mistake, from 1.
        column: its column, from 1.
        field: the field, as in ``build.flags[2]``; empty if it is the file as a whole.
        expected: what should be there.
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
