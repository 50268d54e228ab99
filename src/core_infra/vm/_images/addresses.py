"""Addresses of images that are not paths: OCI images, systems made of packages, this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._images.debian.release import is_release, names_files
from core_infra.vm._images.named import NamedImages
from core_infra.vm._images.oci.reference import absolute, is_oci

HOST = "host"
"""The address of this host's own files."""

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from core_infra.vm._images.image import Bootable


def is_host(image: str | os.PathLike[str]) -> bool:
    """Whether an image is this host itself, and not a path in the working directory."""
    return image == HOST and not names_files(image)


def is_made(image: Bootable | str | os.PathLike[str]) -> bool:
    """Whether an image is given by the address of what it is made of, and kept in the cache."""
    return isinstance(image, str) and (is_oci(image) or is_release(image) or is_host(image))


def rebased(address: str, base: Path) -> Path | str:
    """An image's path or address whose relative path, if it has one, is taken from *base*."""
    if is_oci(address):
        return absolute(address, base)
    if is_release(address) or is_host(address):
        return address
    named = not names_files(str(base / address)) and NamedImages().find(address)
    return address if named else base / address
