"""Container images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.environment import extra_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._builders.builder import Config

_DOCKER = Tool(
    "docker",
    ("docker", "buildx", "version"),
    "Install Docker with buildx: https://docs.docker.com/engine/install.",
)


class DockerBuilder(Builder):
    """``docker buildx build``, once for all platforms.

    Args:
        output: ``oci`` writes an image layout as a tar file, ``load`` gives the image to the
            daemon, ``push`` to its registry. The artifact of the last two is a JSON file that tells
            the image's digest.
    """

    name = "docker"

    def __init__(self, output: Literal["oci", "load", "push"] = "oci") -> None:
        self.output = output

    def default_targets(self) -> list[Target]:
        """Linux, on this host's architecture."""
        return [Target("linux", host_target().arch)]

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step; the image has a part for each platform."""
        output = config.staging("any")
        step = Step(
            name="any",
            target=None,
            commands=(self._command(config, targets),),
            output=output,
            packed=False,
        )
        dockerfile = config.project_dir / config.settings.docker.dockerfile
        problems = [] if dockerfile.is_file() else [f"there is no {dockerfile}"]
        if self.output == "load" and len(targets) > 1:
            problems.append("docker can load an image for one platform only: give one target")
        return Work((step,), (_DOCKER,), tuple(problems))

    def _command(self, config: Config, targets: Sequence[Target]) -> Command:
        docker = config.settings.docker
        image = docker.image or config.name.lower()
        tags = docker.tags or (config.version or "latest",)
        # A value on the command line could be read by every user of the host.
        arguments = dict(line.partition("=")[::2] for line in docker.build_args)
        file = config.staging("any") / config.name
        exports = {
            "oci": ("--output", f"type=oci,dest={file}.oci.tar,rewrite-timestamp=true"),
            "load": ("--load", "--metadata-file", f"{file}.image.json"),
            "push": ("--push", "--metadata-file", f"{file}.image.json"),
        }
        argv = (
            *("docker", "buildx", "build", "--platform", ",".join(map(str, targets))),
            *("--file", str(config.project_dir / docker.dockerfile)),
            *(word for tag in tags for word in ("--tag", f"{image}:{_tag(tag)}")),
            *(word for name in arguments for word in ("--build-arg", name)),
            # An attestation has the time in it.
            *("--provenance=false", "--progress=plain"),
            *exports[self.output],
            *extra_flags(config),
            str(config.project_dir),
        )
        return Command(argv, config.project_dir, arguments)


def _tag(version: str) -> str:
    return version.replace("+", "-")  # allowed in versions, not in tags
