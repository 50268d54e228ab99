"""Which sources a builder needs: what a copy contains, and what the digest covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra.build._sources.history import History, read_history
from core_infra.build._sources.sources import Sources, find_sources

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext


class SourcesOwner(Protocol):
    """The part of a builder that determines its sources; see :class:`core_infra.build.Builder`."""

    source_directories: frozenset[str]

    def outside(self, project_dir: Path) -> list[Path]: ...
    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]: ...


def sources_of(
    builder: SourcesOwner, context: BuildContext, targets: Sequence[Target] | None = None
) -> Sources:
    """Find the sources of a builder.

    Args:
        builder: the builder.
        context: its input.
        targets: the platforms; without, ignored files that the builder reads are left out.

    Raises:
        SourcesError: git does not answer, or a directory cannot be read.
    """
    project = context.project_dir.resolve()
    ignored = builder.ignored(context, targets) if targets is not None else []
    return find_sources(
        project,
        context.outputs,
        include=builder.source_directories,
        extra=[*builder.outside(project), *ignored],
    )


def history_of(context: BuildContext) -> History:
    """The state of the repository of what is built.

    Raises:
        SourcesError: git does not answer.
    """
    prefix = context.settings.project.tag_prefix
    return read_history(context.home, prefix=prefix, output=context.outputs)
