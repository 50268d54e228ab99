"""Addresses of OCI images, and names of those in registries: ``ghcr.io/acme/app@sha256:…``.

The grammar of names is that of ``github.com/distribution/reference``, which docker, podman and
skopeo use.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = ("oci:", "oci-layout:", "oci-archive:")
"""What the address of an OCI image begins with."""

DOCKER_HUB = "docker.io"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    Attributes:
        host: the registry, with its port if it has one.
        repository: the path there.
        tag: the version by name; "" if only a digest is given.
        digest: the version by content; "" if only a tag is given.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def version(self) -> str:
        """What is asked for: the digest, otherwise the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Return the image that a name stands for.

    A name without a registry is one of Docker Hub, and of its ``library/`` if it has no slash; a
    name without a version means ``latest``.

    Raises:
        InvalidError: the name does not follow the grammar.
    """
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _invalid(text, f"the digest {digest!r} must be sha256: and 64 hexadecimal digits")
    first, slash, remote = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, remote = DOCKER_HUB, rest
    path, colon, tag = remote.partition(":")
    if first == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    if not _HOST.fullmatch(first):
        raise _invalid(text, f"{first!r} is not the name of a host")
    if not _PATH.fullmatch(path) or len(path) > _LONGEST:
        raise _invalid(text, f"{path!r} must be lower-case letters, digits and . _ - /")
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text, f"the tag {tag!r} must be up to 128 letters, digits and . _ -")
    return Reference(first, path, tag or ("" if digest else "latest"), digest)


def _invalid(text: str, why: str) -> InvalidError:
    return InvalidError(
        f"{text!r} does not name an image in a registry",
        why=why,
        todo="Write it as NAME:TAG, HOST/NAME:TAG or HOST/NAME@sha256:DIGEST.",
    )


def absolute(address: str, base: Path) -> str:
    """Return the address of an image with its path, if it has one, taken from a directory."""
    scheme, _, rest = address.partition(":")
    return address if scheme == "oci" else f"{scheme}:{base / rest}"


def is_oci(path: str | os.PathLike[str]) -> bool:
    """Whether the path of an image is the address of an OCI image."""
    return os.fspath(path).startswith(SCHEMES)
