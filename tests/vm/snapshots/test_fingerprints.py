"""The digest of a function's code changes with each edit only, that of files with their content."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._snapshots.fingerprints import digest_of_code, digest_of_files

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''
import dataclasses, enum, functools, os, sys
from pathlib import Path
from core_infra.vm._snapshots.fingerprints import digest_of_code
import other

PACKAGES = ["nginx", "curl"]
SEED = Path("/srv/pytest-of-me/pytest-7/seed.sql")

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Options:
    port: int = 80

OPTIONS = Options()

def helper(vm):
    vm.exec("echo helper")

def times(number):
    def decorate(function):
        @functools.wraps(function)
        def inner(vm):
            for _ in range(number):
                function(vm)
        return inner
    return decorate

class Installer:
    VERSION = 5
    def run(self, vm, color=Color.RED):
        vm.exec("install", self.VERSION, color, other.constant)

@times(3)
def prepare(vm):
    """Prepare it."""
    helper(vm)
    if vm.name in {"one", "two", "three"}:
        return
    for package in PACKAGES:
        vm.exec(f"apt-get install {package}", OPTIONS)
    (lambda: prepare(vm))()
    vm.push(SEED, "/srv")
    Installer().run(vm)
    def nested():
        return 42

print(digest_of_code(prepare))
print(digest_of_code(functools.partial(prepare, 1)))
print(digest_of_code(functools.cache(prepare)))
print(digest_of_code(Installer().run))
print(digest_of_code(lambda vm: prepare(vm)))
'''
OTHER = "constant = 1\nunused = 1\n"
KINDS = ["function", "partial", "cached", "method", "lambda"]
ALL = set(KINDS)


def digests(directory: Path, source: str = SOURCE, other: str = OTHER) -> list[str]:
    directory.mkdir(exist_ok=True)
    (directory / "main.py").write_text(source)
    (directory / "other.py").write_text(other)
    # In another process with other hashes, so that nothing of the order of sets is in it.
    result = subprocess.run(
        [sys.executable, directory / "main.py"],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    found = digests(tmp_path_factory.mktemp("original"))
    assert len(found) == len(KINDS)
    assert "None" not in found
    return found


@pytest.mark.parametrize(
    ("text", "edited", "changed"),
    [
        ('"echo helper"', '"echo other"', ALL - {"method"}),
        ('["nginx", "curl"]', '["nginx", "wget"]', ALL - {"method"}),
        ('"one", "two", "three"', '"one", "two", "four"', ALL - {"method"}),
        ("times(3)", "times(4)", ALL - {"method"}),
        ("return 42", "return 43", ALL - {"method"}),
        ("port: int = 80", "port: int = 81", ALL - {"method"}),
        ("seed.sql", "other.sql", ALL - {"method"}),
        ("VERSION = 5", "VERSION = 6", ALL),
        ('RED = "red"', 'RED = "pink"', ALL),
        ("constant = 1", "constant = 2", ALL),
        ("(prepare, 1)", "(prepare, 2)", {"partial"}),
        ("lambda vm: prepare(vm)", "lambda vm: prepare(vm) or 1", {"lambda"}),
        ("unused = 1", "unused = 2", set()),
        ("PACKAGES =", "# Moved\n\nPACKAGES =", set()),
        ("pytest-7", "pytest-8", set()),
    ],
)
def test_edits_count(
    original: list[str], tmp_path: Path, text: str, edited: str, changed: set[str]
) -> None:
    assert text in SOURCE + OTHER
    found = digests(tmp_path, SOURCE.replace(text, edited), OTHER.replace(text, edited))
    different = {k for k, old, new in zip(KINDS, original, found, strict=True) if old != new}
    assert different == changed


def test_what_is_no_function_of_python_cannot_be_read() -> None:
    class Callable:
        def __call__(self) -> None: ...

    assert digest_of_code(print) is None
    assert digest_of_code(Callable()) is None


def test_contents_count_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "file").write_text("one")
    (tree / "link").symlink_to("file")
    seen = {digest_of_files([tree])}
    tree = tree.rename(tmp_path / "moved")
    assert digest_of_files([tree]) in seen
    assert digest_of_files([str(tree)]) == digest_of_files(tree)
    (tree / "file").write_text("two")
    seen.add(digest_of_files([tree]))
    (tree / "file").chmod(0o755)
    seen.add(digest_of_files([tree]))
    (tree / "below" / "new").touch()
    seen.add(digest_of_files([tree]))
    (tree / "link").unlink()
    (tree / "link").symlink_to("below")
    seen.add(digest_of_files([tree]))
    (tree / "file").rename(tree / "other")
    seen.add(digest_of_files([tree]))
    assert len(seen) == 6


def test_bad_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"missing.*begins at"):
        digest_of_files(["missing"])
    with pytest.raises(InvalidError, match="depends=3"):
        digest_of_files([3])  # type: ignore[list-item] # on purpose
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidError, match="loop"):
        digest_of_files([tmp_path / "loop"])
