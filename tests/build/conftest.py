from __future__ import annotations

import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from build_support import GpgHome, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSPHRASE = "correct horse, battery"  # noqa: S105 - of a key that is thrown away


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
        yield GpgHome(home, address, PASSPHRASE, public.stdout)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
