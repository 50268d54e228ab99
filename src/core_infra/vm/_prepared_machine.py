"""Prepares a machine once, to be cloned as often as needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._unpatched import shutil
from core_infra.errors import InvalidError
from core_infra.vm._boot import boot_limit
from core_infra.vm._snapshots.fingerprints import digest_of_code, digest_of_files

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from core_infra.vm._live_machines import LiveMachines
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._machine_starter import MachineStarter
    from core_infra.vm._snapshots.cloner import Cloner
    from core_infra.vm._vmm_process import VmmProcess


def check_preparation(prepare: object, on_failure: object) -> None:
    """Raise InvalidError unless something can be prepared with this."""
    if not callable(prepare):
        raise InvalidError(f"cannot prepare anything with {prepare!r}", why="it is not a function")
    if on_failure is not None and not callable(on_failure):
        raise InvalidError(f"cannot use on_failure={on_failure!r}", why="it is not a function")


class PreparedMachine:
    """A machine that was prepared once, to be cloned; made by :meth:`Launcher.prepare`."""

    def __init__(self, clone: Callable[[str | None], Machine], close: Callable[[], None]) -> None:
        self._clone = clone
        self._close = close

    def clone(self, name: str | None = None) -> Machine:
        """A machine of its own that begins where the preparation ended.

        Args:
            name: its name within the launcher; None: ``vm1``, ``vm2``, ….
        """
        return self._clone(name)

    def close(self) -> None:
        """End it; its clones live on."""
        self._close()


class MachinePreparer:
    """Prepares the machines of a launcher.

    Args:
        live: has the machines that run.
        cloner: saves and clones them.
        starter: starts them.
        progress: called with a line if the code of a function cannot be read.
    """

    def __init__(
        self,
        live: LiveMachines,
        cloner: Cloner,
        starter: MachineStarter,
        progress: Callable[[str], None],
    ) -> None:
        self._live = live
        self._cloner = cloner
        self._starter = starter
        self._code = PreparationCode(progress)

    def prepare(
        self,
        prepare: Callable[[Machine], object],
        spec: MachineSpec,
        new_name: Callable[[str | None], str],
        *,
        cache: str | None,
        depends: Iterable[str | os.PathLike[str]] | os.PathLike[str],
        on_failure: Callable[[Machine, BaseException], None] | None,
    ) -> PreparedMachine:
        """See :meth:`core_infra.vm.Launcher.prepare`.

        Args:
            prepare: called with a fresh machine.
            spec: what the machine is made of.
            new_name: the name of a clone, given the requested one.
            cache: a key to keep the prepared machine by.
            depends: files and directories whose contents count for *cache*.
            on_failure: called with the machine and the error if *prepare* raises.
        """
        check_preparation(prepare, on_failure)
        if cache is not None and not isinstance(cache, str):
            raise InvalidError(f"cannot keep a prepared machine by {cache!r}", todo="Give a word.")
        code = None if cache is None else self._code.digest(prepare, cache)

        def make() -> VmmProcess:
            machine = self._starter.clone(spec, boot_limit(spec.image))
            try:
                prepare(machine)
                if code is not None:
                    self._code.has_run(prepare, code)
                return self._live.take_process(machine)
            except BaseException as error:
                if on_failure is not None:
                    on_failure(machine, error)
                self._live.discard(machine)
                raise

        kept_by = () if cache is None else (cache, code or "", digest_of_files(depends))
        accelerator = self._starter.accelerator_of(spec)
        source = self._cloner.prepared_source(spec, accelerator, make, kept_by)
        shutil.rmtree(self._live.run.path / spec.name, ignore_errors=True)
        return PreparedMachine(
            lambda name: self._starter.clone_of(source, spec.named(new_name(name))),
            lambda: self._cloner.forget(source),
        )


class PreparationCode:
    """The digests of the functions that prepare machines.

    Args:
        progress: called with a line if the code of one cannot be read.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._former: dict[str, str] = {}

    def digest(self, prepare: Callable[[Machine], object], cache: str) -> str | None:
        """The digest of the code that prepares a machine; None if it cannot be read."""
        found = digest_of_code(prepare)
        if found is None:
            self._progress(
                f"the code of {prepare!r} cannot be read: what it prepares is kept by "
                f"cache={cache!r} alone, and must get another word when it is edited"
            )
            return None
        return self._former.get(found, found)

    def has_run(self, prepare: Callable[[Machine], object], digest: str) -> None:
        """Let *digest* stand for its code, though it changed its own data, such as a list."""
        if (changed := digest_of_code(prepare)) is not None:
            self._former[changed] = digest
