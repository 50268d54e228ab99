"""The registered builders, by type of project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._builders.cpp import CppBuilder
from core_infra.build._builders.docker import DockerBuilder
from core_infra.build._builders.docs import DocsBuilder
from core_infra.build._builders.go import GoBuilder
from core_infra.build._builders.linuxkit import LinuxKitBuilder
from core_infra.build._builders.node import NodeBuilder
from core_infra.build._builders.php import PhpBuilder
from core_infra.build._builders.python import PythonBuilder
from core_infra.build._builders.rust import RustBuilder
from core_infra.build._builders.taskfile import TaskfileBuilder
from core_infra.build._builders.wails import WailsBuilder
from core_infra.build._project import ProjectType

if TYPE_CHECKING:
    from core_infra.build._builders.builder import Builder

_ALL: tuple[Builder, ...] = (
    GoBuilder(),
    WailsBuilder(),
    NodeBuilder(),
    PhpBuilder(),
    CppBuilder(),
    DockerBuilder(),
    LinuxKitBuilder(),
    TaskfileBuilder(),
    PythonBuilder(),
    RustBuilder(),
    DocsBuilder(),
)
BUILDERS: dict[ProjectType, Builder] = {ProjectType(one.name): one for one in _ALL}
"""The builder of each type of project."""
