"""Detached OpenPGP signatures, by GnuPG."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._errors import SigningError, SigningUnavailableError
from core_infra.build._secret import NO_SECRET, Secret
from core_infra.build._signing.tool import STATUS, ToolResult, failed, pipe_with, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.medium._medium import Medium

EXTENSION = ".asc"

_GPG = ("gpg", "--batch", "--no-tty", "--status-fd", "2")


class Signature(NamedTuple):
    """A valid signature.

    Attributes:
        fingerprint: the fingerprint of the signing key.
        primary: the fingerprint of its primary key; the same if it is the primary key.
        user: the user ID of the key.
    """

    fingerprint: str
    primary: str
    user: str


class GpgSigner:
    """Signs with a key of a GnuPG home; the signature is ``FILE.asc``.

    The files are read and written on their medium; gpg gets pipes.

    Args:
        key: the key's id, fingerprint or address.
        passphrase: the key's passphrase, unless it has none or an agent provides it.
        home: GnuPG's directory; by default its usual one.
    """

    name = "gpg"

    def __init__(self, key: str, *, passphrase: Secret = NO_SECRET, home: str = "") -> None:
        self._key = key
        self._passphrase = passphrase
        self._home = home

    def check(self) -> str:
        """Check that gpg is installed and has the secret key, and that the passphrase is right."""
        argv = [*_gpg(self._home), "--list-secret-keys", "--with-colons", "--", self._key]
        ran = run_tool(argv)
        fields = [line.split(":") for line in ran.stdout.decode(errors="replace").splitlines()]
        fingerprints = [line[9] for line in fields if line[0] == "fpr"]
        if ran.exit_code or not fingerprints:
            raise SigningUnavailableError(
                f"gpg cannot sign as {self._key!r}",
                why="it has no secret key of this name",
                todo="gpg --list-secret-keys lists the available keys.",
                key=self._key,
            )
        try:
            self._signature(b"can you sign?")
        except SigningError as error:
            raise SigningUnavailableError(
                f"gpg cannot sign as {self._key!r}", why=error.why, todo=error.todo, key=self._key
            ) from None
        return f"gpg, key {fingerprints[0]}"

    def sign(self, medium: Medium, path: str) -> str:
        """Write the armored signature of a file to ``FILE.asc``."""
        data = medium.read_bytes(path)
        signature = self._signature(data)
        _verify(data, signature, self._home, f"gpg does not accept its signature of {path!r}")
        target = path + EXTENSION
        medium.write_bytes(target, signature)
        return target

    def _signature(self, data: bytes) -> bytes:
        argv = [*_gpg(self._home), "--pinentry-mode", "loopback", "--local-user", self._key]
        argv += ["--digest-algo", "SHA256", "--detach-sign", "--armor"]
        with contextlib.ExitStack() as stack:
            fds = []
            if self._passphrase:
                secret = self._passphrase.value.encode()
                fds = [stack.enter_context(pipe_with(secret))]
                argv += ["--passphrase-fd", str(fds[0])]
            ran = run_tool(argv, stdin=data, pass_fds=fds)
        if ran.exit_code or not ran.stdout:
            todo = "Is GPG_PASSPHRASE right?" if b"passphrase" in ran.stderr.lower() else ""
            what = f"gpg could not sign as {self._key!r}"
            raise failed(what, argv, ran, [self._passphrase], todo)
        return ran.stdout


def verify_gpg(
    medium: Medium, path: str, *, signature: str = "", key_file: str = "", home: str = ""
) -> Signature:
    """Verify the signature of a file.

    Args:
        medium: where the files are.
        path: the signed file.
        signature: the signature's file; by default ``PATH.asc``.
        key_file: the only public key to accept, on the same medium; by default those of the
            keyring are accepted.
        home: GnuPG's directory; by default its usual one.

    Raises:
        SigningError: the signature does not match the file, or its key is not accepted.
        SigningUnavailableError: gpg is not installed.
        CoreInfraError: reading fails.
    """
    data = medium.read_bytes(path)
    made = medium.read_bytes(signature or path + EXTENSION)
    what = f"the signature of {path!r} is not valid"
    if not key_file:
        return _verify(data, made, home, what)
    with _home_with(medium.read_bytes(key_file), key_file) as own:
        return _verify(data, made, own, what)


def _verify(data: bytes, signature: bytes, home: str, what: str) -> Signature:
    with pipe_with(signature) as fd:
        argv = [*_gpg(home), "--enable-special-filenames", "--verify", "--", f"-&{fd}", "-"]
        ran = run_tool(argv, stdin=data, pass_fds=[fd])
    statuses = list(_statuses(ran))
    valid = [words for words in statuses if words[0] == "VALIDSIG"]
    good = [words for words in statuses if words[0] == "GOODSIG"]
    # Exactly one signature, and it is good: the exit code alone covers all that gpg read.
    if ran.exit_code or len(valid) != 1 or len(good) != 1:
        unknown = any(words[0] == "NO_PUBKEY" for words in statuses)
        todo = "Get the signer's public key, and pass it." if unknown else ""
        raise failed(what, argv, ran, todo=todo)
    return Signature(valid[0][1], valid[0][-1], " ".join(good[0][2:]))


def _statuses(ran: ToolResult) -> Iterator[Sequence[str]]:
    for line in ran.stderr.decode(errors="replace").splitlines():
        if line.startswith(STATUS):
            yield line.removeprefix(STATUS).split()


@contextlib.contextmanager
def _home_with(key: bytes, name: str) -> Iterator[str]:
    """Create a GnuPG home with only this key."""
    with tempfile.TemporaryDirectory(prefix="core-infra-gpg-") as home:
        argv = [*_gpg(home), "--import"]
        ran = run_tool(argv, stdin=key)
        if ran.exit_code:
            raise failed(f"{name!r} has no public key that gpg can read", argv, ran)
        yield home


def _gpg(home: str) -> list[str]:
    return [*_GPG, *(["--homedir", home] if home else [])]
