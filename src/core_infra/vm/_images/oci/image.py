"""Makes an image that a machine boots of an OCI image: its layers on a disk, and our kernel.

It is made once per host and kept in the cache by the digest of the image's manifest, so a tag that
moves makes another one.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.vm._images.cached import OCI_PREFIX
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.image import DiskRecipe, digest_of_code, make_image
from core_infra.vm._images.oci.unpack import image_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._images.image import Image
    from core_infra.vm._images.oci.manifest import OciImage


def oci_image(
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
    recipe = DiskRecipe(
        name,
        default_image(arch, cache_dir=cache_dir, progress=progress),
        kind=OCI_PREFIX,
        key=f"{image.digest} {digest_of_code(*Path(__file__).parent.glob('*.py'))}",
        run=image.run,
        scripts=_entrypoint(image.run),
    )
    found = make_image(
        recipe,
        lambda work: image_tree(image, work, progress),
        cache_dir=cache_dir,
        progress=progress,
    )
    return replace(found, name=name)  # it may have been made by another address


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
