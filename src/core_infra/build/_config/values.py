"""Single values of a build configuration: none leaves the project or becomes an option."""

from __future__ import annotations

import posixpath
import re
import string
from typing import TYPE_CHECKING

from core_infra._yaml.reading import one_of
from core_infra.build._project import ProjectType
from core_infra.build._secret import address_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra._yaml.field import Field, Fields

_PLATFORM = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_FILE_NAME = re.compile(r"[\w][\w .+@-]{0,99}")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_VARIABLE = re.compile(r"[\w./~-]+\.\w+")
ARCHIVE_PLACEHOLDERS = ("name", "version", "os", "arch")
STAMP_PLACEHOLDERS = ("version", "commit", "date")
_RESERVED = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]{0,254}")
_IMAGE_NAME = re.compile(r"[a-z0-9.-]+(?::\d+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+")
_TAG_PREFIX = re.compile(r"[\w@][\w@./+-]{0,99}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}/[\w.-]{1,100}", re.ASCII)
_INDEXES = {
    "pypi": "https://upload.pypi.org/legacy/",
    "testpypi": "https://test.pypi.org/legacy/",
}
_INNER_PATH = "a path inside the project's directory, relative to it"
_MAINTAINER = re.compile(r"[^<>\n]*\w[^<>\n]* <[^<>\s@]+@[^<>\s@]+>")
_SYSTEM_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.+@-]+)+")
_IMAGE_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_IMAGE_FORMAT = re.compile(r"[a-z0-9][a-z0-9+-]{0,31}")
_CHOSEN_BY_US = re.compile(r"--?(?:o|C)(?:=.*)?", re.DOTALL)


def platform(field: Field) -> str:
    """The name of a system or an architecture, which becomes part of a path."""
    return _matching(field, _PLATFORM, "the name of a platform, in small letters and digits")


def file_name(field: Field) -> str:
    """A file name: not hidden, not an option, and not a path."""
    name = _matching(
        field, _FILE_NAME, "a file name: letters, digits, spaces and . _ + @ -, up to 100"
    )
    if reserved_on_windows(name):
        field.reject("a file name that Windows can have, not the name of a device")
    if name.endswith((" ", ".")):  # Windows drops them
        field.reject("a file name that does not end in a space or a point")
    return name


def reserved_on_windows(name: str) -> bool:
    """Whether Windows cannot have a file of this name, also with an extension."""
    return _RESERVED.fullmatch(name.partition(".")[0].strip()) is not None


def inner_path(field: Field) -> str:
    """A path inside the project's directory, which does not look like an option."""
    path = field.string(_INNER_PATH)
    if _leaves(path):
        field.reject(_INNER_PATH)
    return path


def _leaves(path: str) -> bool:
    clean = posixpath.normpath(path)
    return (
        not path
        or path.startswith(("-", "/", "~"))
        or "\\" in path
        or not path.isprintable()
        or clean == ".."
        or clean.startswith("../")
    )


def flag(field: Field) -> str:
    """A flag of the build command, except those that set the output."""
    value = field.string()
    if _CHOSEN_BY_US.fullmatch(value):
        field.reject("a flag other than -o and -C, which the builder chooses")
    return value


def hook(field: Field) -> str:
    """A command for the shell."""
    text = field.string("a command for /bin/sh")
    if not text.strip():
        field.reject("a command for /bin/sh")
    return text


def assignment(field: Field) -> str:
    """A variable, as NAME=value."""
    return _matching(field, _ASSIGNMENT, "NAME=value")


def archive_name(field: Field) -> str:
    """The name of an archive, with placeholders."""
    name = field.string()
    _check_placeholders(field, name, ARCHIVE_PLACEHOLDERS)
    if not _FILE_NAME.fullmatch(name.replace("{", "x").replace("}", "x")):
        field.reject("a file name, in which {name}, {version}, {os} and {arch} are replaced")
    return name


def stamps(field: Field) -> tuple[tuple[str, str], ...]:
    """Values for variables of the program, by the names of these."""
    found = []
    for name, one in field.entries().items():
        value = one.take(_stamp, "")
        if not _VARIABLE.fullmatch(name):
            one.note_key("the name of a variable has a package: main.version")
        found.append((name, value))
    return tuple(found)


def _stamp(field: Field) -> str:
    value = field.string()
    _check_placeholders(field, value, STAMP_PLACEHOLDERS)
    if not value.isprintable() or "'" in value:
        field.reject("printable text without a single quote")
    return value


def _check_placeholders(field: Field, text: str, known: tuple[str, ...]) -> None:
    shown = " ".join(f"{{{name}}}" for name in known)
    if unknown := [name for name in _PLACEHOLDER.findall(text) if name not in known]:
        field.fail(f"{{{unknown[0]}}} is not a placeholder; there are {shown}", shown)
    if {"{", "}"} & set(_PLACEHOLDER.sub("", text)):
        field.reject(f"braces only in placeholders: {shown}")


def line(field: Field) -> str:
    """One line of printable text."""
    text = field.string("one line of text").strip()
    if not text.isprintable():
        field.reject("one line of printable text")
    return text


def maintainer(field: Field) -> str:
    """A maintainer of packages."""
    return _matching(field, _MAINTAINER, "a name and an address: NAME <me@example.org>")


def system_files(field: Field) -> tuple[tuple[str, str], ...]:
    """Files of the project, by their absolute paths on a system."""
    found = []
    for source, one in field.entries().items():
        target = one.take(_system_path, "")
        if _leaves(source):
            one.note_key(f"expected {_INNER_PATH}")
        found.append((source, target))
    return tuple(found)


def _system_path(field: Field) -> str:
    return _matching(field, _SYSTEM_PATH, "the absolute path of a file: /etc/app.conf")


def repository(field: Field) -> str:
    """A repository on a forge."""
    return _matching(field, _REPOSITORY, "a repository on the forge, as OWNER/NAME")


def address(field: Field) -> str:
    """An address that a token may be sent to."""
    expected = "an address such as https://git.example.org"
    url = field.string(expected)
    if why := address_problem(url):
        field.fail(f"{why}; expected {expected}", expected)
    return url.rstrip("/")


def index(field: Field) -> str:
    """The upload address of a Python package index, or ``pypi`` or ``testpypi``."""
    name = field.string("pypi, testpypi, or the upload address of an index")
    return _INDEXES.get(name) or f"{address(field)}{'/' if name.endswith('/') else ''}"


def image(field: Field) -> str:
    """The name of a container image."""
    return _matching(field, _IMAGE, "an image's name, like registry/name")


def image_name(field: Field) -> str:
    """The name of an image with its registry, without a tag."""
    return _matching(field, _IMAGE_NAME, "an image with its registry, like ghcr.io/acme/app")


def tag_prefix(field: Field) -> str:
    """The text before the version in tags of git."""
    return _matching(field, _TAG_PREFIX, "the start of a tag: letters, digits and @ . / _ + -")


def image_tag(field: Field) -> str:
    """A tag of a container image."""
    return _matching(field, _IMAGE_TAG, "a tag: letters, digits, _ . -, up to 128")


def image_format(field: Field) -> str:
    """A LinuxKit format."""
    return _matching(field, _IMAGE_FORMAT, "a format of linuxkit, like kernel+initrd")


def project_type(field: Field) -> ProjectType:
    """A type of project."""
    return ProjectType(one_of([*ProjectType])(field))


class Variables:
    """Reads values in which ``$NAME`` and ``${NAME}`` stand for variables of the environment.

    Attributes:
        unset: the names of used variables that are not set.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.unset: list[str] = []
        self._env = env

    def read(self, fields: Fields, name: str, default: str) -> str:
        """Expand the text of a field; if it is missing, return the variable *default*."""
        return fields.optional(name, self._expanded, self._env.get(default, ""))

    def _expanded(self, field: Field) -> str:
        template = string.Template(field.string())
        if not template.is_valid():
            field.reject("$NAME or ${NAME}, and $$ for a dollar sign")
        names = template.get_identifiers()
        self.unset += [name for name in names if name not in self._env]
        return template.substitute({name: self._env.get(name, "") for name in names})


def _matching(field: Field, pattern: re.Pattern[str], expected: str) -> str:
    value = field.string(expected)
    if not pattern.fullmatch(value):
        field.reject(expected)
    return value
