"""Copies apt's and pip's configuration to a bare system, so that it reaches the same packages."""

import ast
import os
import platform
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

TARGETS = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
# pip's options for the sources of packages; other options stay the host's.
PIP_OPTIONS = (
    *("index-url", "extra-index-url", "find-links", "no-index", "constraint", "trusted-host"),
    *("proxy", "cert", "client-cert", "timeout", "default-timeout", "retries"),
)
VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
CERTIFICATES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
    "NODE_EXTRA_CA_CERTS",
)
FILES = ("/etc/resolv.conf", "/etc/hosts")
DIRECTORIES = (
    *("/etc/apt/auth.conf.d", "/etc/apt/keyrings", "/etc/apt/trusted.gpg.d"),
    "/usr/local/share/ca-certificates",
)


class NoSourceError(Exception):
    """The host's apt has no archive of its own distribution."""


@dataclass
class Repository:
    """An apt source of the host's distribution, with a suite such as "{release}-security"."""

    uri: str
    suite: str
    components: list[str]

    def line(self, release: str) -> str:
        """The line in sources.list, for another release."""
        return f"deb {self.uri} {self.suite.format(release=release)} {' '.join(self.components)}"


def repositories(targets: str, codename: str) -> list[Repository]:
    """Those of the distribution, from what `apt-get indextargets` has printed as TARGETS."""
    found: dict[tuple[str, str], Repository] = {}
    for line in targets.splitlines():
        uri, release, component = line.split()
        base, dash, rest = release.partition("-")
        if base == codename:
            suite = f"{{release}}{dash}{rest}"
            one = found.setdefault((uri, suite), Repository(uri, suite, []))
            if component not in one.components:
                one.components.append(component)
    if not any(one.suite == "{release}" for one in found.values()):
        raise NoSourceError(f"apt has no source of {codename}, this host's release, to copy")
    return sorted(found.values(), key=lambda one: len(one.suite))


def hosts_repositories() -> list[Repository]:
    """Those that this host's apt has."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    query = ["apt-get", "indextargets", "--format", TARGETS, "Created-By: Packages"]
    return repositories(subprocess.check_output(query, text=True), codename)


def pip_configuration(listed: str) -> RawConfigParser:
    """One file for all that `pip config list` has printed: of several files and the environment."""
    parser = RawConfigParser()
    for line in listed.splitlines():
        key, _, text = line.partition("=")
        section, _, name = key.rpartition(".")
        if name in PIP_OPTIONS:
            section = section if section != ":env:" else "global"
            if not parser.has_section(section):
                parser.add_section(section)
            parser.set(section, name, str(ast.literal_eval(text)).replace("\n", "\n\t"))
    return parser


def named_paths(parser: RawConfigParser) -> list[Path]:
    """The files and directories of the host that the configuration names."""
    words = [
        word
        for part in parser.sections()
        for _, text in parser[part].items()
        for word in text.split()
    ]
    paths = [unquote(urlsplit(word).path) if word.startswith("file:") else word for word in words]
    return [Path(path) for path in dict.fromkeys(paths) if path.startswith("/")]


def environment() -> dict[str, str]:
    """What of our environment says how the network is reached."""
    named = {name: os.environ[name] for name in os.environ if name.lower() in VARIABLES}
    files = {name: os.environ.get(name, "") for name in CERTIFICATES}
    return named | {name: file for name, file in files.items() if Path(file).is_file()}


def take_over(root: Path, release: str) -> list[str]:
    """Write the configuration into a root; returns the directories that must be there, too."""
    lines = [one.line(release) for one in hosts_repositories()]
    (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    acquire = subprocess.check_output(["apt-config", "dump", "Acquire"], text=True)
    wanted = ("Acquire::http", "Acquire::Check-", "Acquire::Retries")
    kept = [line for line in acquire.splitlines() if line.startswith(wanted)]
    (root / "etc/apt/apt.conf.d/99host").write_text("\n".join(kept) + "\n", encoding="utf-8")
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    parser = pip_configuration(listed)
    with (root / "etc/pip.conf").open("w", encoding="utf-8") as file:
        parser.write(file)
    directories = []
    files = [Path(name) for name in (*FILES, *environment().values())]
    for path in named_paths(parser):
        if path.is_dir():
            directories.append(str(shared(path, root)))
        else:
            files.append(path)
    for path in files:
        if path.is_file():
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(path, target)
    for name in filter(os.path.isdir, DIRECTORIES):
        shutil.copytree(name, root / name.lstrip("/"), dirs_exist_ok=True)
    return directories


def shared(directory: Path, root: Path) -> Path:
    """The directory, or its parent: the links of an index lead to sibling directories."""
    return directory if (root / directory.parent.relative_to("/")).exists() else directory.parent
