"""Makes an image that a machine boots of an OCI image: its layers on a disk, and our kernel.

It is made once per host and kept in the cache by the digest of the image's manifest, so a tag that
moves makes another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cache import locked, writable
from core_infra.vm._free_space import written
from core_infra.vm._images.cached import OCI_PREFIX
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.tree import Node, directory, text_file
from core_infra.vm._images.initrd import cpio, file
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import DISK, INITRD, KERNEL, write_manifest
from core_infra.vm._images.oci.unpack import image_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._images.image import Image
    from core_infra.vm._images.oci.manifest import OciImage

_SCRIPTS = Path(__file__).parents[2] / "_guest" / "disk_root"
_FREE = 4 << 30
_MEMORY = 512
_KEPT = 30 * 24 * 3600


def machine_image(
    image: OciImage, name: str, arch: str, *, cache_dir: Path, progress: Callable[[str], None]
) -> Image:
    """Return the image that boots *image*, made if it is not in the cache.

    Args:
        image: the OCI image.
        name: the name that messages show.
        arch: its architecture.
        cache_dir: the directory whose ``images`` holds what is made.
        progress: is called with a line of text before anything slow.

    Raises:
        InvalidError: a layer is damaged, or holds what a disk cannot.
        UnavailableError: there is no room for it, or the default image's kernel cannot be had.
    """
    base = default_image(arch, cache_dir=cache_dir, progress=progress)
    scripts = {path.name: path.read_bytes() for path in sorted(_SCRIPTS.iterdir())}
    key = hashlib.sha256(
        json.dumps([image.digest, base.kernel.parent.name, _FREE, _code()]).encode()
        + repr(scripts).encode()
    ).hexdigest()[:24]
    images = writable(cache_dir / "images")
    target = images / f"{OCI_PREFIX}{arch}-{key}"
    with suppress(NotFoundError, InvalidError):
        found = built_image(target)
        with suppress(OSError):
            os.utime(target)
        return replace(found, name=name)  # it may have been made by another address
    with (
        written(f"the disk of {name}", images),
        locked(images / f".{target.name}.lock", "makes the same image", progress),
    ):
        with suppress(NotFoundError, InvalidError):
            return built_image(target)  # another process has just made it
        work = images / f".making-{target.name}"
        for left in (target, work, *_unused(images)):  # damaged, of a killed process, old
            shutil.rmtree(left, ignore_errors=True)
        work.mkdir()
        try:
            made = work / "image"
            made.mkdir()
            tree = _tree(image, work, progress)
            progress(f"writing the disk of {name}")
            write_ext4(made / DISK, tree, free=_FREE)
            try:
                (made / KERNEL).hardlink_to(base.kernel)
            except OSError:  # a file system without hard links, or another one
                shutil.copyfile(base.kernel, made / KERNEL)
            assert base.initrd is not None  # noqa: S101 - the default image has one
            data = base.initrd.read_bytes()
            (made / INITRD).write_bytes(
                data
                + bytes(-len(data) % 4)
                + _scripts(scripts | _entrypoint(image.run), base.console)
            )
            write_manifest(
                made,
                image={
                    "cmdline": base.cmdline,
                    "arch": arch,
                    "name": name,
                    "has_agent": True,
                    "console": base.console,
                    "memory": _MEMORY,
                    "run": asdict(image.run),
                },
                packages=[],
            )
            made.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return built_image(target)


def _unused(images: Path) -> list[Path]:
    """Return the images that have not been used for a month."""
    before, found = time.time() - _KEPT, []
    for path in images.glob(f"{OCI_PREFIX}*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            if path.stat().st_mtime < before:
                found.append(path)
    return found


def _code() -> str:
    """Return a digest of what makes a disk."""
    total = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *(here.parent / "disk").glob("*.py")]):
        total.update(path.read_bytes())
    return total.hexdigest()


def _tree(image: OciImage, work: Path, progress: Callable[[str], None]) -> Node:
    """Return the image's tree with the places that a machine needs."""
    tree = image_tree(image, work, progress)
    for name in (b"dev", b"etc", b"proc", b"run", b"sys"):
        if not (name in tree.entries and tree.entries[name].is_dir):
            tree.entries[name] = directory()
    tree.entries.setdefault(b"tmp", directory(0o1777))
    tree.entries[b"etc"].entries.setdefault(b"inittab", text_file(""))
    return tree


def _entrypoint(run: RunConfig) -> dict[str, bytes]:
    """Return the script that starts the program that an image is for, if there is one."""
    argv = [*run.entrypoint, *run.cmd]
    if not argv:
        return {}
    path = run.env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment = "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in ({"HOME": "/"} | run.env).items()
        if name.isidentifier()
    )
    return {
        "entrypoint": (
            f"#!/run/core-infra/bin/sh\n{environment}export PATH={shlex.quote(path)}\n"
            f"cd {shlex.quote(run.workdir)} || cd /\n"
            f"exec /run/core-infra/agent --as {shlex.quote(run.user or '0')} {shlex.join(argv)}\n"
        ).encode()
    }


def _scripts(scripts: dict[str, bytes], console: str) -> bytes:
    entries = []
    for name, data in scripts.items():
        content = data.replace(b"@CONSOLE@", console.encode())
        permissions = 0o755 if data.startswith(b"#!") else 0o644
        entries.append(
            file("init" if name == "init" else f"disk_root/{name}", content, permissions)
        )
    return cpio(entries)
