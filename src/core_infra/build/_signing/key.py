"""Detached signatures by a private key in PEM, made by openssl, in the form that cosign writes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._errors import SigningError, SigningUnavailableError, VerificationError
from core_infra.build._secret import NO_SECRET, Secret
from core_infra.build._signing.tool import ToolResult, failed, pipe_with, run_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.medium._medium import Medium

EXTENSION = ".sig"
PUBLIC_KEY = b"PUBLIC KEY-----"
"""What a file with a public key in PEM has, and one with a key of OpenPGP has not."""
_IN_TOTO = "application/vnd.in-toto+json"
_FROM_ENVIRONMENT = "env://"
_MAKE_ONE = "Make a key with: openssl ecparam -genkey -name prime256v1 -noout -out release.key"


class KeySigner:
    """Signs with a private key in PEM, of the kind EC or RSA; the signature is ``FILE.sig``.

    It is the base64 text of an ASN.1 signature over SHA-256, as ``cosign sign-blob --key`` writes
    it; ``openssl dgst -sha256 -verify`` accepts it after decoding.

    Args:
        key: the path of the key's file, or ``env://NAME`` for the text of an environment variable.
        passphrase: the key's passphrase, unless it has none.

    Example:
        ``KeySigner("release.key").sign(LocalMedium(), "dist/CHECKSUMS.txt")`` writes
        ``dist/CHECKSUMS.txt.sig``.
    """

    name = "key"

    def __init__(self, key: str, *, passphrase: Secret = NO_SECRET) -> None:
        self._key = key
        self._passphrase = passphrase

    def check(self) -> str:
        """Check that openssl is installed, and that it can sign with the key."""
        private = self._private()
        public = self._public(private)
        try:
            self._signature(private, b"can you sign?")
        except SigningError as error:
            raise self._unusable(error.why, _MAKE_ONE) from None
        return f"openssl, key {_fingerprint(public)}"

    def sign(self, medium: Medium, path: str) -> str:
        """Write the signature of a file to ``FILE.sig``."""
        signature, _ = self._verified(medium.read_bytes(path), path)
        target = path + EXTENSION
        medium.write_bytes(target, base64.b64encode(signature) + b"\n")
        return target

    def attest(self, medium: Medium, path: str, target: str) -> None:
        """Write an in-toto statement, such as a provenance, as a signed DSSE envelope.

        Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.

        Args:
            medium: where the files are.
            path: the statement.
            target: the path of the envelope, a JSON object.

        Raises:
            SigningError: openssl failed.
            CoreInfraError: reading or writing fails.
        """
        payload = medium.read_bytes(path)
        signature, public = self._verified(_to_be_signed(payload), path)
        signed = {"keyid": _fingerprint(public), "sig": base64.b64encode(signature).decode()}
        envelope = {
            "payloadType": _IN_TOTO,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [signed],
        }
        medium.write_text(target, json.dumps(envelope) + "\n")

    def _verified(self, data: bytes, path: str) -> tuple[bytes, bytes]:
        """A signature, which was verified, and the public key."""
        private = self._private()
        public, signature = self._public(private), self._signature(private, data)
        _verify(data, [signature], public, path)
        return signature, public

    def _private(self) -> Secret:
        """The text of the key."""
        if name := variable_of(self._key):
            text = os.environ.get(name, "")
            if not text:
                raise self._unusable("the environment variable is not set")
        else:
            try:
                text = Path(self._key).read_text("ascii")
            except (OSError, ValueError) as error:
                raise self._unusable(getattr(error, "strerror", "") or "it is not text") from None
        if "PRIVATE KEY-----" not in text:
            raise self._unusable("it has no private key in PEM", _MAKE_ONE)
        if " SIGSTORE PRIVATE KEY" in text or " COSIGN PRIVATE KEY" in text:
            raise self._unusable("it has cosign's own format, which openssl cannot read", _MAKE_ONE)
        return Secret(text)

    def _public(self, private: Secret) -> bytes:
        """The public key that belongs to the key, in DER."""
        argv = ["openssl", "pkey", "-pubout", "-outform", "DER", "-in"]
        ran = self._run(private, argv)
        if ran.exit_code:
            how = "with its passphrase" if self._passphrase else "without a passphrase"
            raise self._unusable(
                f"openssl cannot read it {how}", "Is SIGNING_KEY_PASSPHRASE right?"
            )
        return ran.stdout

    def _signature(self, private: Secret, data: bytes) -> bytes:
        argv = ["openssl", "dgst", "-sha256", "-sign"]
        ran = self._run(private, argv, data)
        if ran.exit_code or not ran.stdout:
            what = f"openssl could not sign with the key {self._key!r}"
            raise failed(what, argv, ran, [self._passphrase])
        return ran.stdout

    def _run(self, private: Secret, argv: Sequence[str], data: bytes = b"") -> ToolResult:
        """Run openssl with the path of the key as the last argument of *argv*."""
        with (
            pipe_with(private.value.encode()) as key,
            # A key without a passphrase ignores it; without it, openssl would ask on a terminal.
            pipe_with(f"{self._passphrase.value}\n".encode()) as passphrase,
        ):
            words = [*argv, f"/dev/fd/{key}", "-passin", f"fd:{passphrase}"]
            return run_tool(words, stdin=data, pass_fds=[key, passphrase])

    def _unusable(self, why: str, todo: str = "") -> SigningUnavailableError:
        return SigningUnavailableError(
            f"the signing key {self._key!r} cannot be used", why=why, todo=todo, key=self._key
        )


def variable_of(key: str) -> str:
    """The environment variable that a key is in; empty if it is in a file."""
    return key.removeprefix(_FROM_ENVIRONMENT) if key.startswith(_FROM_ENVIRONMENT) else ""


def verify_key(medium: Medium, path: str, *, key_file: str) -> str:
    """Verify the signature of a file, ``PATH.sig``, by a public key.

    Args:
        medium: where the files are.
        path: the signed file.
        key_file: the public key in PEM, on the same medium.

    Returns:
        The key's fingerprint: the SHA-256 of its DER form.

    Raises:
        SigningError: the signature does not match the file and the key.
        SigningUnavailableError: openssl is not installed.
        CoreInfraError: a file cannot be read.
    """
    public = _public_key(medium, key_file)
    _verify(medium.read_bytes(path), [read_signature(medium, path)], public, path)
    return _fingerprint(public)


def read_signature(medium: Medium, path: str) -> bytes:
    """The signature in ``PATH.sig``.

    Raises:
        VerificationError: it is not base64.
        CoreInfraError: it cannot be read.
    """
    try:
        signature = base64.b64decode(medium.read_bytes(path + EXTENSION).strip(), validate=True)
    except binascii.Error:
        signature = b""
    if not signature:
        what = f"{path + EXTENSION!r} is not a signature"
        raise VerificationError(what, why="it is not base64", problems=[])
    return signature


def verify_envelope(medium: Medium, path: str, *, payload: str, key_file: str = "") -> str:
    """Check a DSSE envelope.

    Args:
        medium: where the files are.
        path: the envelope.
        payload: the path of the statement that it must contain.
        key_file: the public key in PEM that must have signed it; without it, no signature is
            checked.

    Returns:
        The fingerprint of the key; empty without one.

    Raises:
        VerificationError: it is no envelope, or contains something else.
        SigningError: the signature is not by the key.
        CoreInfraError: a file cannot be read.
    """
    what = f"{path!r} is not a signed statement"
    try:
        envelope = json.loads(medium.read_bytes(path))
        contained = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        kind = envelope["payloadType"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise VerificationError(what, why="it is not a DSSE envelope", problems=[]) from error
    if kind != _IN_TOTO or not signatures:
        raise VerificationError(what, why="it is not a signed in-toto statement", problems=[])
    if contained != medium.read_bytes(payload):
        why = f"it contains something else than {payload!r}"
        raise VerificationError(what, why=why, problems=[])
    if not key_file:
        return ""
    public = _public_key(medium, key_file)
    _verify(_to_be_signed(contained), signatures, public, path)
    return _fingerprint(public)


def _to_be_signed(payload: bytes) -> bytes:
    """DSSE's encoding of a payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (len(_IN_TOTO), _IN_TOTO.encode(), len(payload), payload)


def _public_key(medium: Medium, key_file: str) -> bytes:
    argv = ["openssl", "pkey", "-pubin", "-outform", "DER"]
    ran = run_tool(argv, stdin=medium.read_bytes(key_file))
    if ran.exit_code:
        raise failed(f"{key_file!r} has no public key that openssl can read", argv, ran)
    return ran.stdout


def _verify(data: bytes, signatures: Sequence[bytes], public: bytes, path: str) -> None:
    """Raise SigningError unless one of the signatures is of the data, by the key."""
    for signature in signatures:
        with pipe_with(signature) as made, pipe_with(public) as key:
            argv = ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", f"/dev/fd/{key}"]
            argv += ["-signature", f"/dev/fd/{made}"]
            ran = run_tool(argv, stdin=data, pass_fds=[made, key])
        if not ran.exit_code:
            return
    raise SigningError(
        f"the signature of {path!r} is not valid",
        why="it was made by another key, or for another file",
        command=argv,
        exit_code=ran.exit_code,
        stdout=ran.stdout,
        stderr=ran.stderr,
    )


def _fingerprint(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()
