"""A Windows program that is as small as can be, and a certificate that signs it."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

from build_support import needs

if TYPE_CHECKING:
    from pathlib import Path

SECTION = 0x200


def windows_program() -> bytes:
    """A PE32+ file with one section: what signing tools want to see."""
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x22)
    standard = struct.pack("<HBBIIIII", 0x20B, 14, 0, SECTION, 0, 0, 0x1000, 0x1000)
    versions = [6, 0] * 3
    sizes = [0, 0x2000, SECTION, 0, 3, 0]
    windows = struct.pack("<QIIHHHHHHIIIIHH", 0x140000000, 0x1000, SECTION, *versions, *sizes)
    memory = struct.pack("<QQQQII", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)
    directories = bytes(16 * 8)
    place = [1, 0x1000, SECTION, SECTION, 0, 0, 0, 0, 0x60000020]
    section = struct.pack("<8sIIIIIIHHI", b".text", *place)
    headers = dos + coff + standard + windows + memory + directories + section
    return headers.ljust(SECTION, b"\0") + b"\xc3".ljust(SECTION, b"\0")


def certificate(directory: Path, password: str) -> Path:
    """A self-made certificate for signing code, as PKCS #12."""
    needs("openssl")
    key, cert, both = (directory / name for name in ("key.pem", "cert.pem", "cert.p12"))
    make: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    make += ["-subj", "/CN=core-infra tests"]
    make += ["-days", "2", "-addext", "extendedKeyUsage=codeSigning", "-keyout", key, "-out", cert]
    subprocess.run(make, check=True, capture_output=True)
    pack: list[str | Path] = [
        "openssl",
        "pkcs12",
        "-export",
        "-inkey",
        key,
        "-in",
        cert,
        "-out",
        both,
    ]
    subprocess.run([*pack, "-passout", "stdin"], input=password.encode(), check=True)
    return both
