"""Chooses the signers for a configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.build._signing.gpg import GpgSigner
from core_infra.build._signing.key import KeySigner
from core_infra.build._signing.macos import AppleNotary, CodesignSigner
from core_infra.build._signing.sigstore import SigstoreSigner
from core_infra.build._signing.windows import OsslSigner, SigntoolSigner

if TYPE_CHECKING:
    from core_infra.build._config.settings import SigningSettings
    from core_infra.build._signing.signer import Signer

_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")


@dataclass(frozen=True, slots=True)
class Signers:
    """The signers of a release.

    Attributes:
        darwin: the signers of each program for macOS, in order.
        windows: the signers of each program for Windows.
        checksums: the signers of the release's checksums.
        provenance: the one that signs its provenance, too.
    """

    darwin: tuple[Signer, ...] = ()
    windows: tuple[Signer, ...] = ()
    checksums: tuple[Signer, ...] = ()
    provenance: KeySigner | None = None

    def for_os(self, name: str) -> tuple[Signer, ...]:
        """The signers of programs for an operating system."""
        return {"darwin": self.darwin, "windows": self.windows}.get(name, ())


def choose_signers(sign: SigningSettings) -> Signers:
    """Create the signers of a configuration; does not call their ``check``."""
    if not sign.enabled:
        return Signers()
    key = KeySigner(sign.key, passphrase=sign.key_passphrase) if sign.key else None
    return Signers(
        darwin=_darwin(sign),
        windows=_windows(sign),
        checksums=(*([key] if key else []), *_checksums(sign)),
        provenance=key,
    )


def _darwin(sign: SigningSettings) -> tuple[Signer, ...]:
    signers: list[Signer] = []
    if sign.macos_identity:
        signers.append(CodesignSigner(sign.macos_identity))
    if sign.macos_notarize:
        signers.append(AppleNotary(sign.apple_id, sign.apple_team_id, sign.apple_app_password))
    return tuple(signers)


def _windows(sign: SigningSettings) -> tuple[Signer, ...]:
    certificate = sign.windows_certificate
    if not certificate:
        return ()
    if _THUMBPRINT.fullmatch(certificate):
        return (SigntoolSigner(certificate),)
    return (OsslSigner(certificate, password=sign.windows_password),)


def _checksums(sign: SigningSettings) -> tuple[Signer, ...]:
    signers: list[Signer] = []
    if sign.gpg_key:
        signers.append(GpgSigner(sign.gpg_key, passphrase=sign.gpg_passphrase))
    if sign.sigstore_identity:
        signers.append(SigstoreSigner(sign.sigstore_identity, sign.sigstore_issuer))
    return tuple(signers)
