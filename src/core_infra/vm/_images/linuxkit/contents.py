"""The packages inside an image, from the databases that its package manager keeps in it."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from core_infra.vm._images.linuxkit.archives import content
from core_infra.vm._images.linuxkit.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core_infra.vm._images.disk.tree import Node

_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_DPKG = "var/lib/dpkg/status"
_DPKG_PARTS = "var/lib/dpkg/status.d"  # of distroless images
_RELEASE = ("etc/os-release", "usr/lib/os-release")
_LARGEST = 64 << 20  # bytes of a database
_FIELD = re.compile(r"^([A-Za-z-]+):[ ]?(.*)$", re.MULTILINE)
_ID = re.compile(r"""^ID=["']?([a-z0-9._-]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """A package of a distribution.

    Attributes:
        kind: its type in package URLs: ``deb`` or ``apk``.
        name: with its distribution, as ``debian/openssl``.
        version: its version.
    """

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a machine's image was made of.

    Attributes:
        images: the digest of each OCI image's manifest, by its address in the file.
        packages: those that are installed in the images, and those of this host.
    """

    images: Mapping[str, str]
    packages: tuple[Package, ...]


def installed_packages(tree: Node) -> tuple[Package, ...]:
    """Return the packages of Debian's and Alpine's families that a tree's databases list."""
    root = Root()
    root.tree = tree
    found = set()
    for path in _APK:
        found |= set(_apk(_read(root, path), _distribution(root, "alpine")))
    debian = _distribution(root, "debian")
    found |= set(_dpkg(_read(root, _DPKG), debian))
    parts = root.find(_DPKG_PARTS)
    for name, node in parts.entries.items() if parts is not None else ():
        if node.is_file and not name.endswith(b".md5sums"):
            found |= set(_dpkg(_text(node), debian))
    return tuple(sorted(found))


def host_package(name: str, version: str) -> Package:
    """Return a package of this host's distribution, by its version or as it is in file names."""
    try:
        distribution = platform.freedesktop_os_release()["ID"]
    except OSError:
        distribution = "debian"
    return Package("deb", f"{distribution}/{name}", unquote(version))


def _apk(text: str, distribution: str) -> Iterator[Package]:
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([PV]):(.*)$", paragraph, re.MULTILINE))
        if fields.keys() == {"P", "V"}:
            yield Package("apk", f"{distribution}/{fields['P']}", fields["V"])


def _dpkg(text: str, distribution: str) -> Iterator[Package]:
    for paragraph in text.split("\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        # A package that was removed, but not its settings, is still listed.
        if {"Package", "Version"} <= fields.keys() and fields.get(
            "Status", "install ok installed"
        ).endswith(" installed"):
            yield Package("deb", f"{distribution}/{fields['Package']}", fields["Version"])


def _distribution(root: Root, default: str) -> str:
    for path in _RELEASE:
        if (found := _ID.search(_read(root, path))) is not None:
            return found[1]
    return default


def _read(root: Root, path: str) -> str:
    node = root.find(path)
    return _text(node) if node is not None and node.is_file else ""


def _text(node: Node) -> str:
    if node.size > _LARGEST:  # nothing that a package manager wrote
        return ""
    return b"".join(content(node)).decode("utf-8", "replace")
