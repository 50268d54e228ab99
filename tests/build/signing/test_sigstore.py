from __future__ import annotations

import importlib.util

import pytest

from core_infra.build._errors import ToolMissingError
from core_infra.build._signing.sigstore import SigstoreSigner, verify_sigstore
from core_infra.medium import MemoryMedium

ME, ISSUER = "me@example.org", "https://accounts.example.org"


@pytest.fixture
def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("_without")
def test_without_the_extra_the_error_names_it() -> None:
    medium = MemoryMedium()
    medium.write_text("f", "")
    signer = SigstoreSigner(ME, ISSUER)
    for use in (
        signer.check,
        lambda: signer.sign(medium, "f"),
        lambda: verify_sigstore(medium, "f", identity=ME, issuer=ISSUER),
    ):
        with pytest.raises(ToolMissingError, match=r"pip install core-infra\[sigstore\]"):
            use()
    assert medium.list(".") == ["f"]
