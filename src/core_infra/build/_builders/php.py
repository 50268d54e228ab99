"""PHP applications and packages."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder
from core_infra.build._builders.project_files import read_json, table, text
from core_infra.build._builders.steps import BuilderPlan, Command, Step, Tool
from core_infra.build._sources.search import is_vendored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._artifact import Target
    from core_infra.build._builders.steps import BuildContext

_VERSION = re.compile(r"v?\d+(\.\d+){0,3}(-(alpha|beta|rc|patch|p|a|b)\.?\d*)?", re.IGNORECASE)


class PhpBuilder(Builder):
    """``composer install`` without development packages, then the script ``build``, if it exists.

    Without a lock file, Composer queries its registry for every package, even for development and
    even if there is nothing to install. So for a project that requires no packages, or has them in
    ``vendor``, only the autoloader is generated.

    The artifact is the whole project with its ``vendor`` directory, as a zip.
    """

    name = "php"
    format = "zip"
    supports_faketime = True

    def default_targets(self) -> list[Target]:
        """None: the artifact is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The package's name without its vendor."""
        return text(read_json(project_dir / "composer.json"), "name").rpartition("/")[2]

    def own_version(self, project_dir: Path) -> str:
        """The package's version, if composer.json has one."""
        return text(read_json(project_dir / "composer.json"), "version")

    def plan(self, context: BuildContext, targets: Sequence[Target]) -> BuilderPlan:
        """One step: PHP runs on every system."""
        del targets
        copy = context.copy("any")
        env = {
            "COMPOSER_ALLOW_SUPERUSER": "1",
            "COMPOSER_NO_INTERACTION": "1",
            # Otherwise Composer derives it from the history and writes it into vendor/composer.
            "COMPOSER_ROOT_VERSION": context.version
            if _VERSION.fullmatch(context.version)
            else "1.0.0",
        }
        composer = read_json(context.project_dir / "composer.json")
        complete = _is_complete(context.project_dir, composer)
        commands: list[tuple[str, ...]] = [_AUTOLOAD if complete else _INSTALL]
        if "build" in table(composer, "scripts"):
            commands.append(("composer", "run-script", "build", "--no-interaction"))
        step = Step(
            name="any",
            target=None,
            commands=tuple(Command(command, copy, env) for command in commands),
            output=context.staging("any"),
            copy=copy,
            seeds={"vendor/autoload.php": _autoload(context.project_dir)},
        )
        return BuilderPlan((step,), _TOOLS)

    def outside(self, project_dir: Path) -> list[Path]:
        """The directories of the repositories of type ``path``."""
        listed = read_json(project_dir / "composer.json").get("repositories")
        entries = listed.values() if isinstance(listed, dict) else listed or []
        patterns = [text(one, "url") for one in entries if _is_path(one)]
        found = (os.path.normpath(project_dir / pattern) for pattern in patterns if pattern)
        return [Path(name) for pattern in found for name in sorted(glob.glob(pattern))]  # noqa: PTH207

    def gather(self, context: BuildContext, step: Step) -> None:
        """Take the copy, without its history."""
        assert step.copy is not None  # noqa: S101 - planned above
        shutil.rmtree(step.copy / ".git", ignore_errors=True)
        tree = step.output / context.name
        shutil.move(step.copy, tree)
        for path in tree.glob("vendor/*/*"):
            _own(path, step.copy)


def _is_path(repository: object) -> bool:
    return isinstance(repository, dict) and repository.get("type") == "path"


def _own(path: Path, copy: Path) -> None:
    """Replace a link to a package beside the project by the package."""
    if not path.is_symlink():
        return
    package = Path(
        os.path.normpath(copy / path.relative_to(path.parents[2]).parent / path.readlink())
    )
    if package.is_dir():
        path.unlink()
        shutil.copytree(package, path, symlinks=True, ignore=shutil.ignore_patterns(".git"))


_TOOLS = (
    Tool("php", ("php", "--version"), "Install PHP: apt-get install php-cli."),
    Tool(
        "composer",
        ("composer", "--version", "--no-ansi"),
        "Install Composer: apt-get install composer, or https://getcomposer.org.",
    ),
)


_INSTALL = (
    *("composer", "install", "--no-dev", "--prefer-dist", "--optimize-autoloader"),
    *("--no-interaction", "--no-progress"),
)
_AUTOLOAD = ("composer", "dump-autoload", "--no-dev", "--optimize", "--no-interaction")


def _is_complete(project_dir: Path, composer: dict[str, object]) -> bool:
    """Whether there is nothing to install, and no lock file."""
    if (project_dir / "composer.lock").is_file():
        return False
    # Names without a vendor are parts of PHP: php, ext-json, lib-curl.
    packages = [name for name in table(composer, "require") if "/" in name]
    return not packages or (
        is_vendored(project_dir, "vendor")
        and (project_dir / "vendor/composer/installed.json").is_file()
    )


def _autoload(project_dir: Path) -> str:
    """A file that Composer accepts as an older autoloader of this project.

    Composer gives a class in ``vendor`` a random name, unless it finds an older one: then it uses
    that one's name.
    """
    total = hashlib.sha256()
    for name in ("composer.json", "composer.lock"):
        path = project_dir / name
        total.update(path.read_bytes() if path.is_file() else b"")
    return f"<?php // ComposerAutoloaderInit{total.hexdigest()[:32]}::\n"
