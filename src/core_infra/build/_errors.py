"""Errors of builds, archives, signatures and releases."""

from __future__ import annotations

from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    InvalidFileError,
    NotFoundError,
    UnavailableError,
)


class ConfigError(InvalidFileError):
    """A build configuration, or a file in which a project describes itself, has mistakes.

    Attributes:
        path: the file.
        mistakes: all of them, each with ``file``, ``line``, ``column``, ``field``, ``message`` and
            ``expected``.
        file: the path, as well.
        line: the line of the first mistake, from 1.
        column: its column, from 1.
        field: its field, as in ``build.flags[2]``; empty for the file as a whole.
        expected: a description of the expected value.
    """


class SourcesError(UnavailableError):
    """The sources of a project cannot be determined: git does not answer, a file is unreadable.

    Attributes:
        path: the directory or file.
    """


class ArtifactError(InvalidError):
    """An artifact or a target is not valid: an empty path, a directory instead of a file."""


class ArtifactMissingError(NotFoundError):
    """An artifact does not exist at its path, or a build has not produced one."""


class ArchiveError(InvalidError):
    """An archive cannot be written or read: a name or link is not allowed, a file is damaged."""


class ChecksumError(InvalidError):
    """A checksum is missing, malformed, or does not match the file."""


class VerificationError(InvalidError):
    """A release does not match its checksums, manifest or signature.

    Attributes:
        problems: all problems, one line each.
        report: the VerificationReport with all checks.
    """


class ToolMissingError(UnavailableError):
    """A program or Python package that this step needs is not installed.

    Attributes:
        tool: its name.
    """


class SigningUnavailableError(UnavailableError):
    """Signing was requested but is not possible here: no tool, key or certificate."""


class SigningError(CommandFailedError):
    """The signing tool failed, or a signature is not valid."""


class BuildFailedError(CommandFailedError):
    """A program of a build failed; the output directory is unchanged.

    Attributes:
        step: the target, and the number of the program.
    """


class PreflightError(UnavailableError):
    """A build is not possible here, so it was not started.

    Attributes:
        problems: all known problems, one sentence each.
    """


class PublishError(UnavailableError):
    """A release cannot be published: a server refuses it, or has another one of this version.

    What was uploaded stays; a second run continues.
    """


class PublishInterruptedError(PublishError):
    """A server did not answer, or was busy; the request may be repeated.

    Attributes:
        wait: how long the server wants us to wait, in seconds.
    """


class NotReproducibleError(InvalidError):
    """Two builds of the same sources differ; the artifacts are discarded.

    Attributes:
        differences: the first difference of each artifact, as text: member, field, both values.
    """


def preflight_error(
    project: object, problems: tuple[str, ...], *, todo: str = "", doing: str = "built"
) -> PreflightError:
    """Create the error that lists all problems."""
    why = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems])
    return PreflightError(
        f"{project} cannot be {doing} here", why=why, todo=todo, problems=problems
    )
