from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from build_support import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSPHRASE = "correct horse, battery"  # noqa: S105 - of a key that is thrown away


@dataclass(frozen=True)
class GpgHome:
    path: str
    address: str
    public_key: bytes


@pytest.fixture(scope="session")
def gpg_home() -> Iterator[GpgHome]:
    """A throwaway key with a passphrase. The home's path is short: it has sockets in it."""
    needs("gpg", "gpgconf")
    with tempfile.TemporaryDirectory(prefix="ci-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback"]
        address = "release@example.org"
        make = ["--passphrase", PASSPHRASE, "--quick-gen-key", address, "ed25519", "sign", "never"]
        subprocess.run([*gpg, *make], check=True, capture_output=True)
        public = subprocess.run([*gpg, "--export", "--armor"], check=True, capture_output=True)
        yield GpgHome(home, address, public.stdout)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
