"""Sigstore signatures beside files: by who one is, without a key to keep."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._errors import ToolMissingError
from core_infra.build._signing.tool import failed, run_tool

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium

EXTENSION = ".sigstore.json"
_TOOL = (sys.executable, "-m", "sigstore")


class SigstoreSigner:
    """Signs as the identity that the CI service, or a browser, vouches for.

    The signature is ``FILE.sigstore.json``; it needs a network, and is public for ever.

    Args:
        identity: who will have signed: an address, or a workflow's URL.
        issuer: the URL of who vouches for that.
    """

    name = "sigstore"

    def __init__(self, identity: str, issuer: str) -> None:
        self._identity = identity
        self._issuer = issuer

    def check(self) -> str:
        """See that the package sigstore is installed."""
        _check_installed()
        return f"sigstore, {self._identity}"

    def sign(self, medium: Medium, path: str) -> str:
        """Write the bundle of a file beside it."""
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
    """Check the bundle of a file, ``PATH.sigstore.json``.

    Args:
        medium: where both are.
        path: what was signed.
        identity: who must have signed.
        issuer: who must have vouched for that.

    Raises:
        SigningError: the signature is not that of this file and this identity.
        ToolMissingError: the package sigstore is not installed.
    """
    _check_installed()
    with tempfile.TemporaryDirectory(prefix="core-infra-sigstore-") as directory:
        file, bundle = _files(medium, path, directory)
        bundle.write_bytes(medium.read_bytes(path + EXTENSION))
        _verify(file, bundle, identity, issuer, path)


def _files(medium: Medium, path: str, directory: str) -> tuple[Path, Path]:
    """A real copy of the file, and where its bundle goes."""
    file = Path(directory, "file")
    with medium.open(path) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    return file, Path(directory, "bundle.json")


def _verify(file: Path, bundle: Path, identity: str, issuer: str, path: str) -> None:
    argv = [*_TOOL, "verify", "identity", "--bundle", str(bundle)]
    argv += ["--cert-identity", identity, "--cert-oidc-issuer", issuer, str(file)]
    ran = run_tool(argv)
    if ran.exit_code:
        raise failed(f"the sigstore signature of {path!r} is not good", argv, ran)


def _check_installed() -> None:
    if importlib.util.find_spec("sigstore") is None:
        raise ToolMissingError(
            "signing by sigstore needs sigstore",
            why="it is not installed",
            todo="Install it with: pip install core-infra[sigstore]",
            tool="sigstore",
        )
