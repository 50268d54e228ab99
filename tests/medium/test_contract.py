"""Every medium of the house keeps the contract."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from core_infra.medium import (
    FakeMedium,
    FaultyMedium,
    LocalMedium,
    Medium,
    MemoryMedium,
    SandboxMedium,
)
from core_infra.medium._beneath import kernel_can
from core_infra.testing import MediumContract


class OnDisk(MediumContract):
    reasons = True

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def new_directory(self) -> str:
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        directory.chmod(0o755)
        return str(directory)


class TestLocal(OnDisk):
    def make_medium(self) -> Medium:
        return LocalMedium(self.new_directory())


@pytest.mark.skipif(not kernel_can(), reason="this kernel has no openat2")
class TestSandboxByKernel(OnDisk):
    def make_medium(self) -> Medium:
        return SandboxMedium(self.new_directory(), by_kernel=True)


class TestSandboxByWalking(OnDisk):
    def make_medium(self) -> Medium:
        return SandboxMedium(self.new_directory(), by_kernel=False)


class TestMemory(MediumContract):
    reasons = True

    def make_medium(self) -> Medium:
        return MemoryMedium()


class TestFork(MediumContract):
    reasons = True

    def make_medium(self) -> Medium:
        medium = MemoryMedium().fork()
        self.other = medium.fork()
        return medium


class TestFaultyWithoutFaults(MediumContract):
    reasons = True

    def make_medium(self) -> Medium:
        return FaultyMedium(MemoryMedium())


class TestFake(MediumContract):
    reasons = True
    examples = 15

    def make_medium(self) -> Medium:
        return FakeMedium()


class TestFakeMacos(TestFake):
    case_sensitive = False
    examples = 5

    def make_medium(self) -> Medium:
        return FakeMedium(system="macos")


class TestFakeWindows(TestFakeMacos):
    modes = False
    unusual_names = False  # a backslash is a slash

    def make_medium(self) -> Medium:
        return FakeMedium(system="windows")
