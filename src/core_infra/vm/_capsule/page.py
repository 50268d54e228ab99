"""A capsule as one HTML page, which needs no server and loads nothing."""

from __future__ import annotations

import json
from typing import Any

from core_infra._unpatched import Path

_DATA = "/*DATA*/null"


def page(manifest: dict[str, Any]) -> str:
    """The page of a capsule, given what it says."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    shown = {key: value for key, value in manifest.items() if key not in ("digests", "groups")}
    shown["machines"] = [
        {key: value for key, value in machine.items() if key not in ("log", "nonce", "disks")}
        for machine in manifest["machines"]
        if isinstance(machine, dict)
    ]
    data = json.dumps(shown)
    # What a guest has printed must not end the script, nor begin a comment in it.
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    data = data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return template.replace(_DATA, data)
