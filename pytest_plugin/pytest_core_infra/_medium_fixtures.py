"""The fixtures ``core_medium…``: file systems in memory, with changes in failed tests' reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias

import pytest

from pytest_core_infra._reports import guarded

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator
    from pathlib import Path

    from core_infra.medium._fake import FakeMedium
    from core_infra.medium._memory import MemoryMedium

    MediumFrom: TypeAlias = Callable[[str | os.PathLike[str]], MemoryMedium]

_LINES_MAX = 100
"""The lines of each tree in the report of a failed test."""


class _Watched(NamedTuple):
    title: str
    before: MemoryMedium
    medium: MemoryMedium


_WATCHED = pytest.StashKey[list[_Watched]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show in the report of a failed test what has changed in its trees."""
    report = yield
    watched = item.stash.get(_WATCHED, None)
    if watched is not None:
        if report.failed:
            guarded(report, "show what changed", lambda: _add_changes(report, watched))
        if report.failed or report.when == "teardown":
            del item.stash[_WATCHED]  # an item exists for the whole run, its trees need not
    return report


def _add_changes(report: pytest.TestReport, watched: list[_Watched]) -> None:
    report.sections += [(f"{one.title}: what changed", _changes(one)) for one in watched]


@pytest.fixture
def core_medium(request: pytest.FixtureRequest) -> MemoryMedium:
    """An empty file system in memory: fast, and discarded after the test.
    It is for code that takes a ``Medium`` instead of using the disk directly:
    ``core_medium.write_text("etc/app.conf", "colour = blue")``, then ``read(core_medium)``.
    If the test fails, its report lists the files.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from core_infra.medium._memory import MemoryMedium  # noqa: PLC0415 - imported only if it is used

    return _watch(request, "core_medium", MemoryMedium())


@pytest.fixture
def core_medium_from(
    request: pytest.FixtureRequest, _core_loaded: dict[Path, MemoryMedium]
) -> MediumFrom:
    """Makes file systems in memory with a copy of a real directory.
    ``core_medium_from("tests/projects/go")`` returns a new one for each call. A relative path
    starts at pytest's rootdir. The directory is read once in a run for all tests, and never
    changed; modes, symbolic links and empty directories are kept. If the test fails, its report
    shows what was added, removed and changed.

    Example::

        def test_build(core_medium_from):
            project = core_medium_from("tests/projects/go")
            build(project)
            assert project.is_file("dist/app")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line

    def medium_from(directory: str | os.PathLike[str]) -> MemoryMedium:
        original = _loaded(request.config.rootpath, directory, _core_loaded)
        return _watch(request, f"core_medium_from({str(directory)!r})", original.fork())

    return medium_from


@pytest.fixture(scope="session")
def _core_loaded() -> dict[Path, MemoryMedium]:
    return {}


@pytest.fixture
def core_medium_fs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeMedium:
    """The tree of pyfakefs' fixture ``fs`` as a medium; ``open`` and ``pathlib`` use the same tree.
    It is for code that does not take a ``Medium``. After
    ``core_medium_fs.write_text("/etc/app.conf", "…")``, the code finds the file by
    ``open("/etc/app.conf")``. During the test the real disk is hidden, and ``LocalMedium`` raises
    an error. Needs pyfakefs: ``pip install core-infra[pyfakefs]``.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    # Imported before fs is set up: it would replace os in modules that are imported later.
    from core_infra.errors import InvalidError, UnavailableError  # noqa: PLC0415 - imported only if it is used
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
            why=f"it is a {type(fs).__name__} instead of pyfakefs' file system",
            todo="Rename your own fixture fs.",
        )

    def refuse(medium: object, *_args: object, **_options: object) -> NoReturn:
        raise UnavailableError(
            f"cannot use a {type(medium).__name__} beside pyfakefs' tree",
            why="it uses file descriptors, which belong to the real disk",
            todo="Use core_medium_fs itself, or core_medium.",
        )

    for kind in (LocalMedium, SandboxMedium):
        monkeypatch.setattr(kind, "__init__", refuse)
    return FakeMedium(fs)


def _loaded(
    rootdir: Path, directory: str | os.PathLike[str], loaded: dict[Path, MemoryMedium]
) -> MemoryMedium:
    from core_infra.medium._errors import PathNotFoundError  # noqa: PLC0415 - imported only if it is used
    from core_infra.medium._load import load  # noqa: PLC0415

    real = (rootdir / directory).resolve()
    if real not in loaded:
        try:
            loaded[real] = load(real)
        except PathNotFoundError as error:
            error.todo = f"A relative path starts at pytest's rootdir, {rootdir}."
            raise
    return loaded[real]


def _watch(request: pytest.FixtureRequest, title: str, medium: MemoryMedium) -> MemoryMedium:
    watched = request.node.stash.setdefault(_WATCHED, [])
    watched.append(_Watched(title, medium.fork(), medium))
    return medium


def _changes(watched: _Watched) -> str:
    lines = str(watched.before.diff(watched.medium)).splitlines()
    if len(lines) > _LINES_MAX:
        from core_infra._wording import count  # noqa: PLC0415 - imported only if it is used

        lines[_LINES_MAX:] = [f"… {count(len(lines) - _LINES_MAX, 'more line')}"]
    return "\n".join(lines)
