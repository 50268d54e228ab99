"""Authenticode signatures of Windows programs, by osslsigncode on any host or by signtool."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import real_path
from core_infra.build._errors import SigningUnavailableError
from core_infra.build._secret import NO_SECRET, Secret
from core_infra.build._signing.tool import failed, find_tool, pipe_with, run_tool

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium

_SYSTEM_CAS = Path("/etc/ssl/certs/ca-certificates.crt")


class OsslSigner:
    """Signs Windows programs with a PKCS #12 file, on any system.

    Args:
        certificate: the path of the PKCS #12 file on this host.
        password: the file's password.
        timestamp_url: an RFC 3161 time-stamp authority; without one, the signature expires with its
            certificate.
        ca_file: the certificates to trust in the verification, as PEM; by default those of the
            PKCS #12 file and of the system.
    """

    name = "osslsigncode"

    def __init__(
        self,
        certificate: str,
        *,
        password: Secret = NO_SECRET,
        timestamp_url: str = "",
        ca_file: str = "",
    ) -> None:
        self._certificate = certificate
        self._password = password
        self._timestamp_url = timestamp_url
        self._ca_file = ca_file

    def check(self) -> str:
        """Check that the tools are installed, and that the password opens the certificate."""
        find_tool("osslsigncode")
        find_tool("openssl")
        if not Path(self._certificate).is_file():
            raise SigningUnavailableError(
                "Windows programs cannot be signed",
                why=f"the certificate {self._certificate!r} does not exist",
                todo="Give a PKCS #12 file, or disable this signature.",
                certificate=self._certificate,
            )
        self._certificates()
        return f"osslsigncode, {self._certificate}"

    def sign(self, medium: Medium, path: str) -> str:
        """Replace a program by its signed version."""
        trusted = self._trusted()
        with tempfile.TemporaryDirectory(prefix="core-infra-sign-") as directory:
            unsigned, signed, cas = (Path(directory, name) for name in ("in", "out", "cas.pem"))
            with medium.open(path) as source, unsigned.open("wb") as target:
                shutil.copyfileobj(source, target)
            cas.write_bytes(trusted)
            self._run_sign(unsigned, signed, path)
            verify = ["osslsigncode", "verify", "-in", str(signed), "-CAfile", str(cas)]
            ran = run_tool(verify)
            if ran.exit_code:
                what = f"osslsigncode does not accept its signature of {path!r}"
                raise failed(what, verify, ran, [self._password])
            with signed.open("rb") as source, medium.create(path) as target:
                shutil.copyfileobj(source, target)
        return path

    def _run_sign(self, unsigned: Path, signed: Path, path: str) -> None:
        argv = ["osslsigncode", "sign", "-h", "sha256", "-pkcs12", self._certificate]
        argv += ["-readpass", "-"]  # standard input
        argv += ["-ts", self._timestamp_url] if self._timestamp_url else []
        argv += ["-in", str(unsigned), "-out", str(signed)]
        ran = run_tool(argv, stdin=f"{self._password.value}\n".encode())
        if ran.exit_code or not signed.exists():
            raise failed(f"osslsigncode could not sign {path!r}", argv, ran, [self._password])

    def _trusted(self) -> bytes:
        if self._ca_file:
            return Path(self._ca_file).read_bytes()
        system = _SYSTEM_CAS.read_bytes() if _SYSTEM_CAS.exists() else b""
        return self._certificates() + system

    def _certificates(self) -> bytes:
        """The certificates of the PKCS #12 file."""
        with pipe_with(f"{self._password.value}\n".encode()) as fd:
            argv = ["openssl", "pkcs12", "-in", self._certificate, "-nokeys"]
            argv += ["-passin", f"fd:{fd}"]
            ran = run_tool(argv, pass_fds=[fd])
        if ran.exit_code:
            error = failed("", argv, ran, [self._password])
            raise SigningUnavailableError(
                f"the certificate {self._certificate!r} cannot be opened",
                why=error.why,
                todo="Is its password right?",
                certificate=self._certificate,
            )
        return ran.stdout


class SigntoolSigner:
    """Signs Windows programs with a certificate of the Windows store.

    Signtool accepts the password of a file only as an argument, which every user of the host can
    read; so the certificate must be in the store.

    Args:
        thumbprint: the SHA-1 of the certificate, 40 hexadecimal digits.
        timestamp_url: an RFC 3161 time-stamp authority.
    """

    name = "signtool"

    def __init__(self, thumbprint: str, *, timestamp_url: str = "") -> None:
        self._thumbprint = thumbprint
        self._timestamp_url = timestamp_url

    def check(self) -> str:
        """Check that signtool is installed."""
        find_tool("signtool")
        return f"signtool, certificate {self._thumbprint}"

    def sign(self, medium: Medium, path: str) -> str:
        """Sign a program in place."""
        real = real_path(medium, path)
        argv = ["signtool", "sign", "/fd", "SHA256", "/sha1", self._thumbprint]
        if self._timestamp_url:
            argv += ["/tr", self._timestamp_url, "/td", "SHA256"]
        argv.append(real)
        ran = run_tool(argv)
        if ran.exit_code:
            raise failed(f"signtool could not sign {path!r}", argv, ran)
        verify = ["signtool", "verify", "/pa", real]
        ran = run_tool(verify)
        if ran.exit_code:
            raise failed(f"signtool does not accept its signature of {path!r}", verify, ran)
        return path
