"""The interface of signers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium


class Signer(Protocol):
    """Signs files with one key.

    Attributes:
        name: its name in plans and errors.
    """

    @property
    def name(self) -> str:
        """Its name in plans and errors."""
        ...

    def check(self) -> str:
        """Check, before anything is built, that signing is possible.

        Returns:
            A description of the tool and the key.

        Raises:
            SigningUnavailableError: the tool, the key or the certificate is missing.
        """
        ...

    def sign(self, medium: Medium, path: str) -> str:
        """Sign a file, and verify the signature with the same tool.

        An embedded signature replaces the file atomically; a detached one appears when it is
        complete. If signing fails, neither exists.

        Returns:
            The path of the file with the signature: the same file, or a new one.

        Raises:
            SigningError: the tool failed, or the signature is not valid.
            CoreInfraError: reading or writing fails.
        """
        ...
