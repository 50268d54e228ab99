"""The port: what every way of signing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium


class Signer(Protocol):
    """One way to sign files, with one key.

    Attributes:
        name: what plans and errors call it.
    """

    @property
    def name(self) -> str:
        """What plans and errors call it."""
        ...

    def check(self) -> str:
        """See, before anything is built, that signing will be possible.

        Returns:
            What it signs with, in words: the tool's version and the key.

        Raises:
            SigningUnavailableError: the tool, the key or the certificate is missing.
        """
        ...

    def sign(self, medium: Medium, path: str) -> str:
        """Sign a file, and see that the signer's own tool accepts the signature.

        A signature that is part of the file replaces the file in one step; one beside it appears
        whole. If anything fails, neither is there.

        Returns:
            The path of what has the signature now: the file, or a new one beside it.

        Raises:
            SigningError: the tool failed, or does not accept what it made.
            CoreInfraError: reading or writing fails.
        """
        ...
