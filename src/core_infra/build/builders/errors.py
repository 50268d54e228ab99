"""What goes wrong while a project is built."""

from __future__ import annotations

from core_infra.errors import CommandFailedError, UnavailableError


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
