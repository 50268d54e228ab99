"""Detached Sigstore signatures: by an identity, without a private key to store."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._archives.contents import hash_file
from core_infra.build._errors import ToolMissingError, VerificationError
from core_infra.build._signing.tool import failed, run_tool

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium

EXTENSION = ".sigstore.json"
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"
_TOOL = (sys.executable, "-P", "-m", "sigstore")  # not a sigstore.py of a downloaded release


class SigstoreSigner:
    """Signs with an identity that the CI service, or a login in the browser, confirms.

    The signature is ``FILE.sigstore.json``. Signing needs the network, and is logged publicly.

    Args:
        identity: the expected identity: an address, or a workflow's URL.
        issuer: the URL of the identity provider.
    """

    name = "sigstore"

    def __init__(self, identity: str, issuer: str) -> None:
        self._identity = identity
        self._issuer = issuer

    def check(self) -> str:
        """Check that the package sigstore is installed."""
        _check_installed()
        return f"sigstore, {self._identity}"

    def sign(self, medium: Medium, path: str) -> str:
        """Write the bundle of a file to ``FILE.sigstore.json``."""
        _check_installed()
        with tempfile.TemporaryDirectory(prefix="core-infra-sigstore-") as directory:
            file, bundle = _files(medium, path, directory)
            argv = [*_TOOL, "sign", "--bundle", str(bundle), str(file)]
            ran = run_tool(argv)
            if ran.exit_code or not bundle.exists():
                raise failed(f"sigstore could not sign {path!r}", argv, ran)
            _verify(file, bundle, self._identity, self._issuer, path)
            target = path + EXTENSION
            medium.write_bytes(target, bundle.read_bytes())
        return target


def verify_sigstore(medium: Medium, path: str, *, identity: str, issuer: str) -> None:
    """Verify the bundle of a file, ``PATH.sigstore.json``.

    Args:
        medium: where the files are.
        path: the signed file.
        identity: the identity that must have signed it.
        issuer: the URL of its identity provider.

    Raises:
        SigningError: the signature does not match the file and the identity.
        ToolMissingError: the package sigstore is not installed.
    """
    _check_installed()
    with tempfile.TemporaryDirectory(prefix="core-infra-sigstore-") as directory:
        file, bundle = _files(medium, path, directory)
        bundle.write_bytes(medium.read_bytes(path + EXTENSION))
        _verify(file, bundle, identity, issuer, path)


def check_bundle(medium: Medium, path: str) -> None:
    """Check that the bundle beside a file is one of sigstore, and of this file; not who signed it.

    Raises:
        VerificationError: it is not.
        CoreInfraError: a file cannot be read.
    """
    what = f"{path + EXTENSION!r} is not a sigstore signature of this file"
    try:
        bundle = json.loads(medium.read_bytes(path + EXTENSION))
        kind = bundle["mediaType"]
        digest = base64.b64decode(bundle["messageSignature"]["messageDigest"]["digest"])
        signed = bool(bundle["messageSignature"]["signature"] and bundle["verificationMaterial"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise VerificationError(what, why="it is not a bundle", problems=[]) from error
    with medium.open(path) as file:
        same = digest.hex() == hash_file(file)
    if not (str(kind).startswith(_MEDIA_TYPE) and signed and same):
        why = "it signs another file" if signed and not same else "it is not a bundle"
        raise VerificationError(what, why=why, problems=[])


def _files(medium: Medium, path: str, directory: str) -> tuple[Path, Path]:
    """Return a real copy of the file, and the path for its bundle."""
    file = Path(directory, "file")
    with medium.open(path) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    return file, Path(directory, "bundle.json")


def _verify(file: Path, bundle: Path, identity: str, issuer: str, path: str) -> None:
    argv = [*_TOOL, "verify", "identity", "--bundle", str(bundle)]
    argv += ["--cert-identity", identity, "--cert-oidc-issuer", issuer, str(file)]
    ran = run_tool(argv)
    if ran.exit_code:
        raise failed(f"the sigstore signature of {path!r} is not valid", argv, ran)


def _check_installed() -> None:
    if importlib.util.find_spec("sigstore") is None:
        raise ToolMissingError(
            "signing by sigstore needs sigstore",
            why="it is not installed",
            todo="Install it with: pip install core-infra[sigstore]",
            tool="sigstore",
        )
