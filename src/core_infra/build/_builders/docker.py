"""Container images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.builder import Builder
from core_infra.build._builders.environment import extra_flags
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._sources.search import ignored_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._builders.steps import BuildContext

_DOCKER = Tool(
    "docker",
    ("docker", "buildx", "version"),
    "Install Docker with buildx: https://docs.docker.com/engine/install.",
)


class DockerBuilder(Builder):
    """``docker buildx build``, once for all platforms.

    Args:
        output: ``oci`` writes an image layout as a tar file, ``load`` loads the image into the
            daemon, ``push`` pushes it to its registry. The artifact of the last two is a JSON file
            with the image's digest.
    """

    name = "docker"

    def __init__(self, output: Literal["oci", "load", "push"] = "oci") -> None:
        self.output = output

    def default_targets(self) -> list[Target]:
        """Linux, on this host's architecture."""
        return [Target("linux", host_target().arch)]

    def ignored(self, context: BuildContext, targets: Sequence[Target]) -> list[Path]:
        """The build context: Docker reads it in place, except what .dockerignore excludes."""
        del targets
        return ignored_files(context.project_dir)

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step; the image is built for all platforms."""
        output = context.staging("any")
        step = Step(
            name="any",
            target=None,
            commands=(self._command(context, targets),),
            output=output,
            packed=False,
        )
        dockerfile = context.project_dir / context.settings.docker.dockerfile
        problems = [] if dockerfile.is_file() else [f"{dockerfile} does not exist"]
        if self.output == "load" and len(targets) > 1:
            problems.append("docker can load an image for one platform only: give one target")
        return BuilderPlan((step,), (_DOCKER,), tuple(problems))

    def _command(self, context: BuildContext, targets: Sequence[Target]) -> Command:
        docker = context.settings.docker
        image = docker.image or context.name.lower()
        tags = docker.tags or (context.version or "latest",)
        # Every user of the host can read the command line, so values are passed as variables.
        arguments = dict(line.partition("=")[::2] for line in docker.build_args)
        file = context.staging("any") / context.name
        exports = {
            "oci": ("--output", f"type=oci,dest={file}.oci.tar,rewrite-timestamp=true"),
            "load": ("--load", "--metadata-file", f"{file}.image.json"),
            "push": ("--push", "--metadata-file", f"{file}.image.json"),
        }
        argv = (
            *("docker", "buildx", "build", "--platform", ",".join(map(_platform, targets))),
            *("--file", str(context.project_dir / docker.dockerfile)),
            *(word for tag in tags for word in ("--tag", f"{image}:{_tag(tag)}")),
            *(word for name in arguments for word in ("--build-arg", name)),
            # An attestation contains the time.
            *("--provenance=false", "--progress=plain"),
            *exports[self.output],
            *extra_flags(context),
            str(context.project_dir),
        )
        return Command(argv, context.project_dir, arguments)


def _platform(target: Target) -> str:
    return "/".join(filter(None, (target.os, target.architecture, target.variant)))


def _tag(version: str) -> str:
    return version.replace("+", "-")  # allowed in versions, but not in tags
