"""File systems in memory, and what a failed test did to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias

import pytest

from pytest_core_infra._guard import guarded

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator
    from pathlib import Path

    from core_infra.medium._fake import FakeMedium
    from core_infra.medium._memory import MemoryMedium

    MediumFrom: TypeAlias = Callable[[str | os.PathLike[str]], MemoryMedium]

_LINES_MAX = 100
"""Of each tree in the report of a failed test."""


class _Watched(NamedTuple):
    title: str
    before: MemoryMedium
    medium: MemoryMedium


_WATCHED = pytest.StashKey[list[_Watched]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell in the report of a failed test what has changed in its trees."""
    report = yield
    watched = item.stash.get(_WATCHED, None)
    if watched is not None:
        if report.failed:
            guarded(report, "show what changed", lambda: _add_changes(report, watched))
        if report.failed or report.when == "teardown":
            del item.stash[_WATCHED]  # an item lives as long as the run, its trees need not
    return report


def _add_changes(report: pytest.TestReport, watched: list[_Watched]) -> None:
    report.sections += [(f"{one.title}: what changed", _changes(one)) for one in watched]


@pytest.fixture
def core_medium(request: pytest.FixtureRequest) -> MemoryMedium:
    """An empty file system in memory: fast, and gone after the test.
    Code that takes a ``Medium`` instead of touching the disk itself can be tested with it:
    ``core_medium.write_text("etc/app.conf", "colour = blue")``, then ``read(core_medium)``.
    If the test fails, its report lists what is in it.
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.medium._memory import MemoryMedium  # noqa: PLC0415 - who uses it pays for it

    return _watch(request, "core_medium", MemoryMedium())


@pytest.fixture
def core_medium_from(
    request: pytest.FixtureRequest, _core_loaded: dict[Path, MemoryMedium]
) -> MediumFrom:
    """Makes file systems in memory that begin as a copy of a real directory.
    ``core_medium_from("tests/projects/go")`` returns one; each call gives another. A relative path
    begins at pytest's rootdir. The directory is read once in a run, however many tests ask for it,
    and never changed; modes, symbolic links and empty directories are kept. If the test fails, its
    report shows what was added, removed and changed.

    Example::

        def test_build(core_medium_from):
            project = core_medium_from("tests/projects/go")
            build(project)
            assert project.is_file("dist/app")
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line

    def medium_from(directory: str | os.PathLike[str]) -> MemoryMedium:
        original = _loaded(request.config.rootpath, directory, _core_loaded)
        return _watch(request, f"core_medium_from({str(directory)!r})", original.fork())

    return medium_from


@pytest.fixture(scope="session")
def _core_loaded() -> dict[Path, MemoryMedium]:
    return {}


@pytest.fixture
def core_medium_fs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeMedium:
    """The tree of pyfakefs' fixture ``fs`` as a medium: plain ``open`` and ``pathlib`` see it too.
    For code under test that does not take a ``Medium``. What you write with
    ``core_medium_fs.write_text("/etc/app.conf", "…")``, it finds by ``open("/etc/app.conf")``; the
    real disk is out of sight for the length of the test, and ``LocalMedium`` refuses to work.
    Needs pyfakefs: ``pip install core-infra[pyfakefs]``.
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    # All that is imported comes before fs, which would put its own os into new modules.
    from core_infra.errors import InvalidError, UnavailableError  # noqa: PLC0415 - see above
    from core_infra.medium._fake import FakeMedium  # noqa: PLC0415
    from core_infra.medium._local import LocalMedium  # noqa: PLC0415
    from core_infra.medium._sandbox import SandboxMedium  # noqa: PLC0415

    try:
        fs = request.getfixturevalue("fs")
    except pytest.FixtureLookupError as error:
        FakeMedium()  # without pyfakefs, this says what to install
        raise UnavailableError(
            "cannot share a tree with the fixture fs",
            why="there is no such fixture: pyfakefs' pytest plugin is switched off",
            todo="Let pytest load the plugin fakefs.",
        ) from error
    if not hasattr(fs, "root_dir_name"):
        raise InvalidError(
            "cannot share a tree with the fixture fs",
            why=f"it is a {type(fs).__name__}, and not pyfakefs' file system",
            todo="Rename your own fixture fs.",
        )

    def refuse(medium: object, *_args: object, **_options: object) -> NoReturn:
        raise UnavailableError(
            f"cannot use a {type(medium).__name__} beside pyfakefs' tree",
            why="it works by descriptors, which are of the real disk",
            todo="Use core_medium_fs itself, or core_medium.",
        )

    for kind in (LocalMedium, SandboxMedium):
        monkeypatch.setattr(kind, "__init__", refuse)
    return FakeMedium(fs)


def _loaded(
    rootdir: Path, directory: str | os.PathLike[str], loaded: dict[Path, MemoryMedium]
) -> MemoryMedium:
    from core_infra.medium._errors import PathNotFoundError  # noqa: PLC0415 - as above
    from core_infra.medium._load import load  # noqa: PLC0415

    real = (rootdir / directory).resolve()
    if real not in loaded:
        try:
            loaded[real] = load(real)
        except PathNotFoundError as error:
            error.todo = f"A relative path begins at pytest's rootdir, {rootdir}."
            raise
    return loaded[real]


def _watch(request: pytest.FixtureRequest, title: str, medium: MemoryMedium) -> MemoryMedium:
    watched = request.node.stash.setdefault(_WATCHED, [])
    watched.append(_Watched(title, medium.fork(), medium))
    return medium


def _changes(watched: _Watched) -> str:
    lines = str(watched.before.diff(watched.medium)).splitlines()
    if len(lines) > _LINES_MAX:
        lines[_LINES_MAX:] = [f"… {len(lines) - _LINES_MAX} more lines"]
    return "\n".join(lines)
