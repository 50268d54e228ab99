"""Makes what does not fit into the cache, prints the error, and what is left there, as JSON.

Run: fill_cache.py CACHE packages|disk
"""

import json
import os
import sys
from pathlib import Path

from core_infra.errors import UnavailableError
from core_infra.vm._free_space import written
from core_infra.vm._images.debian.apt import Apt
from core_infra.vm._images.debian.release import Release
from core_infra.vm._images.disk.image import DiskRecipe, make_image
from core_infra.vm._images.disk.tree import Node, add_file, directory
from core_infra.vm._images.image import Image

LARGE = 8 << 20


def packages(cache: Path) -> None:
    """Download the package ``large`` of the repository that apt is configured for."""
    with written("packages", cache):
        apt = Apt(Release("debian", "bookworm"), None, "amd64", cache / "debian", lambda _: None)
        apt.fetch([], ["large"])


def disk(cache: Path) -> None:
    """Make the disk of a tree with a large file."""
    small = cache / "small"
    small.write_bytes(b"1")
    base = Image(small, small, "", "x86_64", "base", has_agent=True, console="ttyS0")

    def tree(work: Path) -> Node:
        root = directory()
        add_file(root, "large", os.urandom(LARGE))
        (work / "layer.tar").write_bytes(b"part")
        return root

    recipe = DiskRecipe("it", base, kind="oci-", key="1")
    make_image(recipe, tree, cache_dir=cache, progress=lambda _: None)


if __name__ == "__main__":
    cache = Path(sys.argv[1])
    try:
        {"packages": packages, "disk": disk}[sys.argv[2]](cache)
    except UnavailableError as error:
        left = {str(path.relative_to(cache)): path.stat().st_size for path in cache.rglob("*")}
        files = [path for path, size in left.items() if size > 1 and not (cache / path).is_dir()]
        print(json.dumps({"what": error.what, "why": error.why, "left": sorted(files)}))
