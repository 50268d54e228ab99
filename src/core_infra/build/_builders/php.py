"""PHP applications and packages."""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

from core_infra.build._builders.builder import Builder, Command, Step, Tool, Work
from core_infra.build._builders.project_files import read_json, table, text
from core_infra.build._builders.sources import is_vendored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.build._artifact import Target
    from core_infra.build._builders.builder import Config

_VERSION = re.compile(r"v?\d+(\.\d+){0,3}(-(alpha|beta|rc|patch|p|a|b)\.?\d*)?", re.IGNORECASE)


class PhpBuilder(Builder):
    """``composer install`` without what is for developers, then the script ``build`` if there is.

    Without a lock file Composer would ask its registry about every package, those for developers
    too, even if there is nothing to install: so a project that requires no packages, or came with
    them in ``vendor``, only gets its autoloader made.

    The artifact is the whole project with its ``vendor`` directory, as a zip.
    """

    name = "php"
    format = "zip"
    bears_faketime = True

    def default_targets(self) -> list[Target]:
        """None: what it makes is for every platform."""
        return []

    def default_name(self, project_dir: Path) -> str:
        """The package's name without its vendor."""
        return text(read_json(project_dir / "composer.json"), "name").rpartition("/")[2]

    def plan(self, config: Config, targets: Sequence[Target]) -> Work:
        """One step: PHP runs on every system."""
        del targets
        copy = config.staging("any") / config.name
        env = {
            "COMPOSER_ALLOW_SUPERUSER": "1",
            "COMPOSER_NO_INTERACTION": "1",
            # It would be guessed from the history, and written into vendor/composer.
            "COMPOSER_ROOT_VERSION": config.version
            if _VERSION.fullmatch(config.version)
            else "1.0.0",
        }
        composer = read_json(config.project_dir / "composer.json")
        complete = _is_complete(config.project_dir, composer)
        commands: list[tuple[str, ...]] = [_AUTOLOAD if complete else _INSTALL]
        if "build" in table(composer, "scripts"):
            commands.append(("composer", "run-script", "build", "--no-interaction"))
        step = Step(
            name="any",
            target=None,
            commands=tuple(Command(command, copy, env) for command in commands),
            output=copy.parent,
            copy=copy,
            seeds={"vendor/autoload.php": _autoload(config.project_dir)},
        )
        return Work((step,), _TOOLS)

    def gather(self, config: Config, step: Step) -> None:
        """Drop the links to the history: the copy itself is the artifact."""
        shutil.rmtree(step.output / config.name / ".git", ignore_errors=True)


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
    """Whether there is nothing to install, and no lock file that could say otherwise."""
    if (project_dir / "composer.lock").is_file():
        return False
    # Packages have a vendor; what has none is part of PHP: php, ext-json, lib-curl.
    packages = [name for name in table(composer, "require") if "/" in name]
    return not packages or (
        is_vendored(project_dir, "vendor")
        and (project_dir / "vendor/composer/installed.json").is_file()
    )


def _autoload(project_dir: Path) -> str:
    """What Composer takes for an older autoloader of this project.

    Composer names a class in ``vendor`` by a random number, unless it finds one that it made
    before: then it keeps that one's name.
    """
    total = hashlib.sha256()
    for name in ("composer.json", "composer.lock"):
        path = project_dir / name
        total.update(path.read_bytes() if path.is_file() else b"")
    return f"<?php // ComposerAutoloaderInit{total.hexdigest()[:32]}::\n"
