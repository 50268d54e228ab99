"""A capsule as one HTML page, which needs no server and loads nothing."""

from __future__ import annotations

import json
from typing import Any

from core_infra._unpatched import Path

_SHARED = {"/*STYLE*/": "style.css", "/*SCRIPT*/": "common.js"}
_DATA = "/*DATA*/null"


def page(manifest: dict[str, Any]) -> str:
    """The page of a capsule, given what it says."""
    shown = {key: value for key, value in manifest.items() if key not in ("digests", "groups")}
    shown["machines"] = [
        {key: value for key, value in machine.items() if key not in ("log", "nonce", "disks")}
        for machine in manifest["machines"]
        if isinstance(machine, dict)
    ]
    return filled(Path(__file__).with_name("page.html"), shown)


def filled(template: Path, value: object) -> str:
    """A page, complete with what all pages share, and with its data, a value of JSON."""
    data = json.dumps(value)
    # What a guest has printed must not end the script, nor begin a comment in it.
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    data = data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    text = template.read_text(encoding="utf-8")
    for place, name in _SHARED.items():
        text = text.replace(place, Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return text.replace(_DATA, data)
