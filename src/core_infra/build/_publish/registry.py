"""Pushes the image of a release to a registry, by skopeo."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from typing import TYPE_CHECKING

from core_infra.build._errors import PublishError
from core_infra.build._packages.image import IMAGE_SUFFIX, image_tag
from core_infra.build._signing.tool import ToolResult, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.build._publish.files import File

_TIMEOUT = 1800.0
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ABSENT = ("manifest unknown", "name unknown", "not found", "repository name not known")


def registry_problems() -> list[str]:
    """Why no image can be pushed, one sentence each."""
    if shutil.which("skopeo") is None:
        return ["skopeo is not on PATH, and pushes images: apt-get install skopeo"]
    return []


def image_address(image: str, version: str) -> str:
    """The address of the image of a version: ``ghcr.io/acme/app:1.2.3``."""
    return f"{image}:{image_tag(version)}"


def image_file(name: str, files: Sequence[File]) -> Path | None:
    """The image of a build among the files of a release."""
    return next((file.path for file in files if file.name == f"{name}{IMAGE_SUFFIX}"), None)


def push_image(path: Path, address: str, *, report: Callable[[str], object]) -> None:
    """Push an image with all its platforms, unless the registry has it already.

    The name and password are those of ``skopeo login`` and ``docker login``.

    Raises:
        PublishError: the registry refuses, or has another image with this tag.
    """
    tls = [f"--tls-verify={str(not address.startswith(_LOOPBACK)).lower()}"]
    there = run_tool(["skopeo", "inspect", "--raw", *tls, f"docker://{address}"], timeout=_TIMEOUT)
    if there.exit_code == 0:
        found = f"sha256:{hashlib.sha256(there.stdout).hexdigest()}"
        if found != (ours := _digest(path)):
            raise PublishError(
                f"{address} is already there",
                why=f"it is {found}, and this release has {ours}",
                todo="Release another version.",
            )
        report(f"{address} is there already")
        return
    if not any(text in there.stderr.decode(errors="replace").lower() for text in _ABSENT):
        raise _refused(address, there)
    report(f"push {path.name} to {address}")
    argv = ["skopeo", "copy", "--all", "--preserve-digests", f"--dest-{tls[0][2:]}"]
    ran = run_tool([*argv, f"oci-archive:{path}", f"docker://{address}"], timeout=_TIMEOUT)
    if ran.exit_code:
        raise _refused(address, ran)


def _refused(address: str, ran: ToolResult) -> PublishError:
    lines = ran.stderr.decode(errors="replace").strip().splitlines()
    return PublishError(
        f"cannot push to {address}",
        why="\n".join(lines[-3:]),
        todo=f"Is the password there? skopeo login {address.partition('/')[0]}",
    )


def _digest(path: Path) -> str:
    with tarfile.open(path) as archive:
        file = archive.extractfile("index.json")
        assert file is not None  # noqa: S101 - it is our own
        return str(json.load(file)["manifests"][0]["digest"])
