"""Signing by the tools of each platform, behind one interface."""

from core_infra.build._signing.choose import Signers, choose_signers
from core_infra.build._signing.gpg import GpgSigner, verify_gpg
from core_infra.build._signing.macos import AppleNotary, CodesignSigner
from core_infra.build._signing.signer import Signer
from core_infra.build._signing.sigstore import SigstoreSigner, verify_sigstore
from core_infra.build._signing.windows import OsslSigner, SigntoolSigner

__all__ = [
    "AppleNotary",
    "CodesignSigner",
    "GpgSigner",
    "OsslSigner",
    "Signer",
    "Signers",
    "SigntoolSigner",
    "SigstoreSigner",
    "choose_signers",
    "verify_gpg",
    "verify_sigstore",
]
