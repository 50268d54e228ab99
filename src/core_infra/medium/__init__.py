"""A file system as a value: the same operations on real files and in memory."""

from core_infra.medium._copy import copy
from core_infra.medium._difference import Difference
from core_infra.medium._errors import (
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
    StrPath,
)
from core_infra.medium._fake import FakeMedium
from core_infra.medium._faulty import FaultyMedium
from core_infra.medium._load import load
from core_infra.medium._local import LocalMedium
from core_infra.medium._medium import FileInfo, Medium
from core_infra.medium._memory import MemoryMedium
from core_infra.medium._paths import rooted
from core_infra.medium._sandbox import SandboxMedium
from core_infra.medium._tar import pack, unpack
from core_infra.medium._writer import AtomicWriter, writer_in_memory

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
    "rooted",
    "unpack",
    "writer_in_memory",
]
