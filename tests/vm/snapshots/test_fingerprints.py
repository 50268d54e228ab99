"""The digest of a function's code: another one after each edit, and no other by anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.vm._snapshots.fingerprints import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''
import dataclasses, enum, functools, os, sys
from pathlib import Path
from core_infra.vm._snapshots.fingerprints import fingerprint
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

print(fingerprint(prepare))
print(fingerprint(functools.partial(prepare, 1)))
print(fingerprint(functools.cache(prepare)))
print(fingerprint(Installer().run))
print(fingerprint(lambda vm: prepare(vm)))
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

    assert fingerprint(print) is None
    assert fingerprint(Callable()) is None
