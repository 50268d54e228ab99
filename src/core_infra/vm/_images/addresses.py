"""Addresses of images that are not paths: OCI images, systems made of packages, this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.vm._images.debian.release import VERSIONS
from core_infra.vm._images.named import NamedImages
from core_infra.vm._images.oci.reference import absolute, is_oci

HOST = "host"
"""The address of this host's own files."""

if TYPE_CHECKING:
    import os

    from core_infra.vm._images.image import Bootable


def is_release(image: str | os.PathLike[str]) -> bool:
    """Whether an image is a system made of packages, such as ``debian:12``.

    An image of this name in the working directory comes first, as it did before there were such
    addresses. Many projects have a directory ``debian`` that holds no image.
    """
    named = isinstance(image, str) and image.partition(":")[0] in VERSIONS
    return named and not _names_files(str(image))


def is_host(image: str | os.PathLike[str]) -> bool:
    """Whether an image is this host itself, and not a path in the working directory."""
    return image == HOST and not _names_files(str(image))


def is_made(image: Bootable | str | os.PathLike[str]) -> bool:
    """Whether an image is given by the address of what it is made of, and kept in the cache."""
    return isinstance(image, str) and (is_oci(image) or is_release(image) or is_host(image))


def rebased(address: str, base: Path) -> Path | str:
    """An image's path or address whose relative path, if it has one, is taken from *base*."""
    if is_oci(address):
        return absolute(address, base)
    if is_release(address) or is_host(address):
        return address
    named = not _names_files(str(base / address)) and NamedImages().find(address)
    return address if named else base / address


def _names_files(path: str) -> bool:
    """Whether an image has this path: a file, a set, or a directory with one."""
    given = Path(path)
    places = (given, Path(f"{given}-kernel"), given / "image.yaml")
    return any(place.is_file() for place in places) or any(given.glob("*-kernel"))
