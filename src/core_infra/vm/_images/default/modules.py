"""Selects kernel modules and their dependencies from a distribution's kernel package.

A package holds the modules but not the index that ``depmod`` makes when the package is installed.
The dependencies of a module are in the module itself, in its ELF section ``.modinfo``.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.compression import decompress, is_compressed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LIMIT = 256 << 20
_SECTION = struct.Struct("<II8xQQQ24x")  # name, type, -, address, offset, size, …


@dataclass(frozen=True)
class Module:
    """A kernel module, unpacked.

    Attributes:
        name: with ``_`` where the file may have ``-``.
        path: below ``/lib/modules/RELEASE``, ending in ``.ko``.
        data: the ELF file.
        depends: the names of the modules that must be loaded before.
        aliases: the patterns by which the kernel requests it.
    """

    name: str
    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class ModuleTree:
    """The modules of one kernel.

    Args:
        root: the directory ``lib/modules/RELEASE`` of the unpacked package.
    """

    def __init__(self, root: Path) -> None:
        self.release = root.name
        self._root = root
        self._files = {_normal(path.name.split(".ko")[0]): path for path in root.rglob("*.ko*")}
        builtin = root / "modules.builtin"
        lines = builtin.read_text().splitlines() if builtin.exists() else []
        self._builtin = {_normal(line.rpartition("/")[2].removesuffix(".ko")) for line in lines}

    def select(self, required: Iterable[str], optional: Iterable[str] = ()) -> list[Module]:
        """The requested modules and their dependencies, each after its own dependencies.

        Modules that are built into the kernel are left out.

        Raises:
            NotFoundError: a required module, or a dependency, does not exist.
            InvalidError: a module is damaged.
        """
        chosen: dict[str, Module] = {}
        for name in required:
            self._choose(_normal(name), chosen, ())
        for name in optional:
            if _normal(name) in self._files:
                self._choose(_normal(name), chosen, ())
        return list(chosen.values())

    def _choose(self, name: str, chosen: dict[str, Module], above: tuple[str, ...]) -> None:
        if name in chosen or name in self._builtin:
            return
        if name in above:
            raise InvalidError(f"Kernel modules need each other: {' → '.join([*above, name])}")
        if name not in self._files:
            raise NotFoundError(
                f"Linux {self.release} has no module {name}",
                why=f"needed by {above[-1]}" if above else "",
            )
        module = self._read(name)
        for need in module.depends:
            self._choose(need, chosen, (*above, name))
        chosen[name] = module

    def _read(self, name: str) -> Module:
        path = self._files[name]
        data = path.read_bytes()
        try:
            if is_compressed(data):
                data = decompress(data, _LIMIT)
            facts = modinfo(data)
        except InvalidError as error:
            raise InvalidError(f"The kernel module {path} is damaged", why=str(error)) from error
        needs = ",".join(facts.get("depends", ())).split(",")
        return Module(
            name=name,
            path=str(path.relative_to(self._root).parent / (path.name.split(".ko")[0] + ".ko")),
            data=data,
            depends=tuple(_normal(need) for need in needs if need),
            aliases=tuple(facts.get("alias", ())),
        )


def packed(module: Module) -> Module:
    """The module as a file that ``modprobe`` unpacks when it loads it."""
    data = gzip.compress(module.data, mtime=0)
    return replace(module, path=f"{module.path}.gz", data=data)


def index(modules: Iterable[Module]) -> dict[str, bytes]:
    """The files that ``modprobe`` reads: ``modules.dep`` and ``modules.alias``.

    Args:
        modules: as ``ModuleTree.select`` returns them.
    """
    chains: dict[str, list[str]] = {}  # for each module: the paths to load, its own last
    dep, alias = [], []
    for module in modules:
        chain = dict.fromkeys(path for need in module.depends for path in chains.get(need, ()))
        chains[module.name] = [*chain, module.path]
        # modprobe loads the modules of a line from its end to its beginning.
        dep.append(f"{module.path}: {' '.join(reversed(chain))}".rstrip())
        alias += [f"alias {pattern} {module.name}" for pattern in module.aliases]
    return {
        "modules.dep": "".join(f"{line}\n" for line in dep).encode(),
        "modules.alias": "".join(f"{line}\n" for line in alias).encode(),
    }


def modinfo(module: bytes) -> dict[str, list[str]]:
    """The metadata of a module: the ``key=value`` strings of its section ``.modinfo``.

    Raises:
        InvalidError: this is not a 64-bit little-endian ELF file with such a section.
    """
    facts: dict[str, list[str]] = {}
    for line in section(module, b".modinfo").split(b"\0"):
        key, equals, value = line.decode(errors="replace").partition("=")
        if equals:
            facts.setdefault(key, []).append(value)
    return facts


def section(elf: bytes, wanted: bytes) -> bytes:
    """The content of a section.

    Raises:
        InvalidError: this is not a 64-bit little-endian ELF file with such a section.
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise InvalidError("It is not a 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", elf, 40)
        size, count, names = struct.unpack_from("<HHH", elf, 58)
        sections = [_SECTION.unpack_from(elf, table + number * size) for number in range(count)]
        strings = sections[names][3]
    except (struct.error, IndexError, OverflowError) as error:
        raise InvalidError("Its table of sections lies beyond its end") from error
    for name, _, _, offset, length in sections:
        start = strings + name
        if elf[start : start + len(wanted) + 1] == wanted + b"\0":
            return elf[offset : offset + length]
    raise InvalidError(f"It has no section {wanted.decode()}")


def _normal(name: str) -> str:
    return name.replace("-", "_")
