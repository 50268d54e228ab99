"""The contract of a builder, as tests to run on your own."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from core_infra.build._artifact import Target, host_target
from core_infra.build._errors import BuildFailedError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType
from core_infra.medium._local import LocalMedium
from core_infra.testing._toolchain import Call, Toolchain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core_infra.build._artifact import Artifact
    from core_infra.build._builders.builder import Builder
    from core_infra.build._pipeline import BuildResult
    from core_infra.build._plan import BuildPlan

_SECRET = "correct-horse-battery"  # noqa: S105 - the tests search for it
_UMASK = 0o022


class BuilderContract:
    """The contract of a builder: where it writes, what its tools get, what a failure leaves.

    Subclass it in a test module. Tools that the host has are run; for others, give a stand-in that
    does what the tool would do.

    Attributes:
        targets: the platforms to build for, as ``os/arch``; by default this host's.
        stand_ins: replacements for tools, by the tool's name: Python source, with the arguments in
            ``argv``, the environment in ``env``, and ``Path`` imported.
        expected: the paths of the artifacts, relative to the output directory, in order.
    """

    targets: ClassVar[Sequence[str]] = (str(host_target()),)
    stand_ins: ClassVar[Mapping[str, str]] = {}
    expected: ClassVar[Sequence[str]] = ()
    _shared: ClassVar[tuple[_Case, BuildResult]]

    def make_builder(self) -> Builder:
        """Return the builder under test. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have make_builder()")

    def make_project(self, directory: Path) -> None:
        """Fill a new directory with a small project for the builder. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have make_project(directory)")

    def test_it_detects_its_project_and_no_other(self) -> None:
        with self._case() as case:
            builder = self.make_builder()
            _holds(builder.detect(LocalMedium(), str(case.project)), "it must detect its project")
            _holds(
                not builder.detect(LocalMedium(), str(case.root / "tools")),
                "a directory without a project must not be detected",
            )

    def test_planning_writes_nothing_and_is_the_same_each_time(self) -> None:
        with self._case() as case:
            before = _fingerprint(case.project)
            first, second = case.plan(), case.plan()
            _holds(first.steps == second.steps, "two plans for the same project must be equal")
            _holds(not case.output.exists(), "a plan must not make the output directory")
            _holds(_fingerprint(case.project) == before, "a plan must not change the project")

    def test_artifacts_are_in_their_directories(self) -> None:
        case, package = self._built()
        found = [os.path.relpath(one.path, case.output) for one in package.built]
        _holds(found == list(self.expected), f"expected {list(self.expected)}, not {found}")
        for artifact in package.built:
            _holds(Path(artifact.path).exists(), f"{artifact.path} must exist")
            _holds(artifact.tree == Path(artifact.path).is_dir(), "a directory is a tree")
            _check_place(artifact, case.output)

    def test_nothing_is_written_outside_the_output_directory(self) -> None:
        case, _ = self._built()
        _holds(_fingerprint(case.project) == case.before[0], "the project must stay as it is")
        new = _names(case.root, case.output) - case.before[1]
        _holds(not new, f"new files: {sorted(new)}")
        hidden = [path.name for path in case.output.iterdir() if path.name.startswith(".")]
        _holds(not hidden, f"a finished build must leave no {hidden}")

    def test_tools_get_one_environment_without_secrets(self) -> None:
        case, _ = self._built()
        for call in case.calls:
            said = str([call.argv, call.env])
            _holds(_SECRET not in said, f"{call.argv[0]} must not get the passphrase")
            _holds(call.env["TZ"] == "UTC", "the time zone must be UTC")
            _holds("SOURCE_DATE_EPOCH" in call.env, "SOURCE_DATE_EPOCH must be set")
            _holds(call.umask == _UMASK, f"the umask must be 022, not {call.umask:03o}")

    def test_a_tool_that_fails_or_is_killed_leaves_nothing(self) -> None:
        with self._case() as case:
            plan = case.plan()
            for how in ("failed", "killed") if case.spied else ():
                with _variables(BUILD_TOKEN=_SECRET), case.failing(how):
                    error = _failure(plan)
                _holds(_SECRET not in str(error), "an error must not contain a secret")
                _holds(not case.output.exists(), "a failed build must leave nothing")
            case.build()

    def test_a_failed_build_keeps_the_last_one(self) -> None:
        case, _ = self._built()
        before = _contents(case.output)
        if case.spied:
            plan = case.plan()  # tools may be asked about the project
            with case.failing("failed"):
                _failure(plan)
        _holds(_contents(case.output) == before, "the finished artifacts must stay")

    def test_a_missing_tool_is_reported_before_the_build(self) -> None:
        with self._case() as case:
            if not case.spied:
                return
            with case.toolchain.on_path(alone=True):
                for name in case.spied:
                    (case.root / "tools" / "bin" / name).unlink()
                problems = case.plan_here().problems
            for name in case.spied:
                _holds(any(name in problem for problem in problems), f"{name} must be reported")

    @classmethod
    def teardown_class(cls) -> None:
        """Remove the build that the tests of a class share."""
        if "_shared" in cls.__dict__:
            shutil.rmtree(cls._shared[0].root)
            del cls._shared

    def _built(self) -> tuple[_Case, BuildResult]:
        """One build for all tests that only inspect it, with unusual umask and variables."""
        kind = type(self)
        if "_shared" not in kind.__dict__:
            case = _Case(self, Path(tempfile.mkdtemp(prefix="core-infra-builder-")).resolve())
            umask = os.umask(0o077)
            try:
                with _variables(GPG_PASSPHRASE=_SECRET, TZ="Asia/Tokyo"):
                    kind._shared = case, case.build()  # noqa: SLF001 - its own class
            finally:
                os.umask(umask)
            case.calls = case.toolchain.calls()
        return kind._shared  # noqa: SLF001 - its own class

    @contextlib.contextmanager
    def _case(self) -> Iterator[_Case]:
        with tempfile.TemporaryDirectory(prefix="core-infra-builder-") as root:
            yield _Case(self, Path(root).resolve())


class _Case:
    """One project and its tools."""

    def __init__(self, contract: BuilderContract, root: Path) -> None:
        self.root = root
        self.project = root / "project"
        self.output = root / "output"
        self.project.mkdir()
        contract.make_project(self.project)
        self.builder = contract.make_builder()
        self.targets = [Target.parse(text) for text in contract.targets]
        self.toolchain = Toolchain(root / "tools", contract.stand_ins)
        programs = {command.argv[0] for step in self.plan_here().steps for command in step.commands}
        names = sorted(name for name in programs | set(contract.stand_ins) if "/" not in name)
        self.spied = [name for name in names if self.toolchain.add(name)]
        self.calls: list[Call] = []
        self.before = _fingerprint(self.project), _names(root, self.output)

    def plan_here(self) -> BuildPlan:
        """The plan with the current PATH."""
        return make_plan(
            self.project,
            output=self.output,
            targets=self.targets,
            type=ProjectType(self.builder.name),
            builder=self.builder,
            version="1.2.3",
        )

    def on_path(self) -> contextlib.AbstractContextManager[None]:
        """Put the tools on PATH."""
        return self.toolchain.on_path()

    def plan(self) -> BuildPlan:
        """The plan with the tools."""
        with self.on_path():
            return self.plan_here()

    @contextlib.contextmanager
    def failing(self, how: str) -> Iterator[None]:
        """Put the tools on PATH, and make them fail."""
        with self.on_path(), self.toolchain.failing(how):
            yield

    def build(self) -> BuildResult:
        """Build with the tools."""
        plan = self.plan()
        with self.on_path():
            return carry_out(plan)


def _failure(plan: BuildPlan) -> BuildFailedError:
    try:
        carry_out(plan)
    except BuildFailedError as error:
        return error
    raise AssertionError("a build whose tool fails must raise BuildFailedError")


def _check_place(artifact: Artifact, output: Path) -> None:
    parent = Path(artifact.path).parent
    places = {output / f"{artifact.os}_{artifact.arch}"} if artifact.os else {output / "any"}
    _holds(parent in {*places, output}, f"{artifact.path} must be in {places}")


def _contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def _fingerprint(directory: Path) -> dict[str, tuple[str, bytes]]:
    """Everything below a directory, ``.git`` included: modes, links and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        state = path.lstat()
        if stat.S_ISREG(state.st_mode):
            content = path.read_bytes()
        else:
            content = os.fsencode(path.readlink()) if path.is_symlink() else b""
        found[str(path.relative_to(directory))] = stat.filemode(state.st_mode), content
    return found


def _names(root: Path, output: Path) -> set[str]:
    ours = {output, root / "tools"}
    paths = (path for path in root.rglob("*") if not ours.intersection({path, *path.parents}))
    return {f"{path.relative_to(root)} {stat.filemode(path.lstat().st_mode)}" for path in paths}


@contextlib.contextmanager
def _variables(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _holds(truth: object, what: str) -> None:
    # Not assert: pytest rewrites it in tests only, and python -O drops it.
    if not truth:
        raise AssertionError(what)
