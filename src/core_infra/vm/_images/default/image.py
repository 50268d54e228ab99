"""The default guest image: built once from the host's own packages, then found in the cache.

Finding it must be quick, so this module imports little; ``builder`` imports what a build needs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cache import places, writable
from core_infra.vm._images.default.recipe import recipe_for
from core_infra.vm._images.kernel_set import built_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._images.image import Image

_ROOM = 200 << 20  # bytes that building takes


def default_image(
    arch: str, *, cache_dir: Path, progress: Callable[[str], None] | None = None
) -> Image:
    """The default image: a Linux kernel, busybox and core-infra's agent.

    It is built at first use, without root, from this host's Debian or Ubuntu packages, and used
    until its recipe changes: the files of its root, the agent, the code that builds it, or the
    host's distribution. If several processes ask at the same time, one builds.

    Args:
        arch: the guest's architecture: ``x86_64`` or ``aarch64``.
        cache_dir: the directory whose ``images`` holds it. If it cannot be written to or is full,
            a private directory that is removed when this process ends is used instead.
        progress: called with a line of text before anything slow.

    Raises:
        UnavailableError: this host lacks apt, the network, space, or an agent for ``arch``.
        NotFoundError: apt does not know a kernel package for it.
        InvalidError: a package is damaged or has an unknown layout.
        CommandFailedError: one of the programs that unpack packages failed.
        TimeoutExpiredError: a program, or another process that builds the image, took too long.
    """
    recipe = recipe_for(arch)
    root, name = cache_dir.absolute(), recipe.image_name
    for place in places(root):
        target = place / "images" / name
        with suppress(NotFoundError, InvalidError):
            image: Image = built_image(target)
            with suppress(OSError):  # a shared cache may be read-only
                os.utime(target)  # images that have not been used for long are removed
            return image
    # Not imported above: the import takes ten times as long as finding a finished image.
    builder = import_module("core_infra.vm._images.default.builder")
    target = writable(root, _ROOM) / "images" / name
    built: Image = builder.build(recipe, target, progress or (lambda _: None))
    return built
