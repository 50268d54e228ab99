"""A file system as a value: the same operations on the real one and in memory."""

from core_infra.medium.copy import copy
from core_infra.medium.difference import Difference
from core_infra.medium.errors import (
    AccessDeniedError,
    DirectoryNotEmptyError,
    InvalidPathError,
    InvalidTextError,
    OutsideSandboxError,
    PathExistsError,
    PathIsDirectoryError,
    PathNotDirectoryError,
    PathNotFoundError,
    StorageError,
)
from core_infra.medium.fake import FakeMedium
from core_infra.medium.faulty import FaultyMedium
from core_infra.medium.load import load
from core_infra.medium.local import LocalMedium
from core_infra.medium.medium import FileInfo, Medium
from core_infra.medium.memory import MemoryMedium
from core_infra.medium.paths import StrPath
from core_infra.medium.sandbox import SandboxMedium
from core_infra.medium.tar import pack, unpack
from core_infra.medium.writer import AtomicWriter

__all__ = [
    "AccessDeniedError",
    "AtomicWriter",
    "Difference",
    "DirectoryNotEmptyError",
    "FakeMedium",
    "FaultyMedium",
    "FileInfo",
    "InvalidPathError",
    "InvalidTextError",
    "LocalMedium",
    "Medium",
    "MemoryMedium",
    "OutsideSandboxError",
    "PathExistsError",
    "PathIsDirectoryError",
    "PathNotDirectoryError",
    "PathNotFoundError",
    "SandboxMedium",
    "StorageError",
    "StrPath",
    "copy",
    "load",
    "pack",
    "unpack",
]
