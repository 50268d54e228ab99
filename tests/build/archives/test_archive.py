from __future__ import annotations

import gzip
import hashlib
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_samples import APP, DATA, some_data
from build_support import accepts
from core_infra.build._archives import streams, zip_writer
from core_infra.build._archives.archive import (
    Format,
    Profile,
    archive,
    archive_all,
    archive_all_xz,
    archive_path,
    archive_with_format,
    archive_xz,
)
from core_infra.build._archives.contents import source_date_epoch
from core_infra.build._archives.reader import archive_content
from core_infra.build._artifact import Artifact, Target
from core_infra.build._errors import ArchiveError, ArtifactError, ArtifactMissingError
from core_infra.errors import CoreInfraError
from core_infra.medium import FaultyMedium, LocalMedium, MemoryMedium, StrPath

EXE = Artifact("dist/windows_amd64/a.exe", "windows", "amd64")
WAYS = [(form, profile) for form in Format for profile in Profile]


@pytest.fixture
def medium(tmp_path: Path) -> LocalMedium:
    medium = LocalMedium(tmp_path)
    medium.write_bytes(APP.path, DATA, mode=0o755)
    return medium


def bundle(root: Path) -> Artifact:
    app = root / "dist/darwin_arm64/My App.app"
    (app / "Contents/MacOS").mkdir(parents=True)
    (app / "Contents/Empty").mkdir()
    (app / "Contents/MacOS/app").write_bytes(b"\xcf\xfa\xed\xfe" * 9)
    (app / "Contents/MacOS/app").chmod(0o700)
    (app / "Contents/Info.plist").write_text("<plist/>")
    (app / "Contents/Current").symlink_to("MacOS/app")
    (app / f"Contents/{'long' * 40}").write_text("a name that no old tar header takes")
    (app / "Contents/Grüße.txt").write_text("hi")
    return Artifact("dist/darwin_arm64/My App.app", "darwin", "arm64")


@pytest.mark.parametrize(("form", "profile"), WAYS)
def test_everybodys_tools_accept_it(
    medium: LocalMedium, tmp_path: Path, form: Format, profile: Profile
) -> None:
    made = archive_with_format(medium, APP, form, profile=profile)
    path = tmp_path / made.path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == made.checksum
    accepts("7z", "t", path)
    out = tmp_path / "out"
    out.mkdir()
    if form is Format.ZIP:
        accepts("unzip", "-t", path)
        accepts("unzip", path, "-d", out)
    else:
        accepts("gzip" if form is Format.GZ else "xz", "-t", path)
        accepts("tar", "-xf", path, "-C", out)
    assert (out / "myapp").read_bytes() == DATA
    assert stat.S_IMODE((out / "myapp").stat().st_mode) & 0o111


@pytest.mark.parametrize("form", Format)
def test_a_bundle_is_archived_whole(tmp_path: Path, form: Format) -> None:
    made = archive_with_format(LocalMedium(tmp_path), bundle(tmp_path), form)
    assert made.path == f"dist/My App_darwin_arm64{form.extension}"
    out = tmp_path / "out"
    out.mkdir()
    if form is Format.ZIP:
        accepts("unzip", "-q", tmp_path / made.path, "-d", out)
    else:
        accepts("tar", "-xf", tmp_path / made.path, "-C", out)
    contents = out / "My App.app/Contents"
    assert (contents / "Current").readlink() == Path("MacOS/app")
    assert (contents / "MacOS/app").stat().st_mode & 0o777 == 0o755
    assert (contents / "Info.plist").stat().st_mode & 0o777 == 0o644
    assert (contents / "Grüße.txt").read_text() == "hi"
    assert (contents / ("long" * 40)).is_file()
    assert (contents / "Empty").is_dir()
    accepts("7z", "t", tmp_path / made.path)


@pytest.mark.parametrize(("form", "profile"), WAYS)
def test_the_number_of_threads_has_no_influence(
    monkeypatch: pytest.MonkeyPatch, medium: LocalMedium, form: Format, profile: Profile
) -> None:
    monkeypatch.setattr(streams, "_XZ_BLOCK", 200_000)
    monkeypatch.setattr(streams, "BLOCK", 100_000)
    monkeypatch.setattr(zip_writer, "BLOCK", 100_000)
    made = {
        archive_with_format(medium, APP, form, profile=profile, threads=threads)
        for threads in (1, 2, 5)
    }
    assert len(made) == 1


def test_nothing_of_the_host_gets_in(tmp_path: Path) -> None:
    script = """
import os, sys
from core_infra.build._archives.archive import Format, archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.medium import LocalMedium
os.umask(int(sys.argv[2], 8))
medium = LocalMedium(sys.argv[1])
names = ["b", "a.txt", "a/x", "ä", "B"]
for name in names if sys.argv[3] == "1" else names[::-1]:
    medium.write_text(f"dist/linux_amd64/tree/{name}", name * 1000)
os.chmod(f"{sys.argv[1]}/dist/linux_amd64/tree/b", 0o777 & ~int(sys.argv[2], 8))
os.utime(f"{sys.argv[1]}/dist/linux_amd64/tree/b", (int(sys.argv[3]), int(sys.argv[3])))
tree = Artifact("dist/linux_amd64/tree", "linux", "amd64", tree=True)
for form in Format:
    made = archive_with_format(medium, tree, form, threads=int(sys.argv[3]))
    print(made.path, made.checksum, made.content)
"""
    said = []
    for number, umask, zone, locale in (
        (1, "022", "UTC", "C"),
        (3, "077", "Asia/Tokyo", "C.UTF-8"),
    ):
        env = {**os.environ, "TZ": zone, "LC_ALL": locale, "SOURCE_DATE_EPOCH": "1700000001"}
        argv = [sys.executable, "-c", script, str(tmp_path / f"d{number}"), umask, str(number)]
        ran = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        said.append(ran.stdout)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 3


def test_owner_time_and_order_of_members(tmp_path: Path) -> None:
    medium = LocalMedium(tmp_path)
    for name in ("b", "a/x", "a.txt"):
        medium.write_text(f"web/{name}", name)
    made = archive(medium, Artifact("web", tree=True), epoch=1_700_000_000)
    assert made.path == "web.tar.gz"
    with tarfile.open(tmp_path / made.path) as tar:
        members = tar.getmembers()
    assert [one.name for one in members] == ["web", "web/a", "web/a/x", "web/a.txt", "web/b"]
    facts = {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members}
    assert facts == {(0, 0, "", "", 1_700_000_000)}
    assert {one.mode for one in members} == {0o755, 0o644}
    data = (tmp_path / made.path).read_bytes()
    assert data[3:10] == bytes((0, 0, 0, 0, 0, 0, 255))  # no name, no time


def test_the_content_is_known_whatever_packs_it(medium: LocalMedium) -> None:
    made = [archive_with_format(medium, APP, form, profile=profile) for form, profile in WAYS]
    assert len({one.content for one in made}) == 1
    assert {archive_content(medium, one.path) for one in made} == {made[0].content}
    line = f"100755 {hashlib.sha256(DATA).hexdigest()} myapp\n"
    assert made[0].content == hashlib.sha256(line.encode()).hexdigest()


def test_the_content_of_a_tree_is_the_same_in_every_format(tmp_path: Path) -> None:
    medium, tree = LocalMedium(tmp_path), bundle(tmp_path)
    made = [archive_with_format(medium, tree, form) for form in Format]
    assert len({one.content for one in made}) == 1
    assert {archive_content(medium, one.path) for one in made} == {made[0].content}


@pytest.mark.parametrize(
    ("artifact", "form", "path"),
    [
        (APP, "gz", "dist/myapp_linux_amd64.tar.gz"),
        (APP, "xz", "dist/myapp_linux_amd64.tar.xz"),
        (APP, "zip", "dist/myapp_linux_amd64.zip"),
        (
            Artifact("dist/windows_amd64/a.exe", "windows", "amd64"),
            "gz",
            "dist/a_windows_amd64.zip",
        ),
        (
            Artifact("dist/windows_amd64/a.exe", "windows", "amd64"),
            "xz",
            "dist/a_windows_amd64.zip",
        ),
        (Artifact("/abs/linux_arm64/a.b", "linux", "arm64"), "gz", "/abs/a.b_linux_arm64.tar.gz"),
        (Artifact("out/app", "linux", "amd64"), "gz", "out/app_linux_amd64.tar.gz"),
        (Artifact("site/", tree=True), "gz", "site.tar.gz"),
        (Artifact("x"), "gz", "x.tar.gz"),
    ],
)
def test_the_name_of_the_archive(artifact: Artifact, form: str, path: str) -> None:
    assert archive_path(artifact, form) == path


def test_a_windows_artifact_is_zip_with_its_whole_name_inside() -> None:
    medium = MemoryMedium()
    medium.write_bytes("dist/windows_amd64/a.exe", b"MZ")
    made = archive_xz(medium, EXE)
    with medium.open(made.path) as file, zipfile.ZipFile(file) as inside:
        assert inside.namelist() == ["a.exe"]
        assert inside.testzip() is None


def test_profiles_choose_size_or_speed() -> None:
    medium = MemoryMedium()
    medium.write_bytes(APP.path, some_data(3_000_000)[:1_500_000])
    sizes = {}
    for profile in Profile:
        made = archive(medium, APP, profile=profile)
        sizes[profile] = medium.stat(made.path).size
    assert made.path == "dist/myapp_linux_amd64.tar.xz"  # small
    assert sizes[Profile.SMALL] < sizes[Profile.DEFAULT] < sizes[Profile.FAST]


def test_all_are_archived_in_order() -> None:
    medium = MemoryMedium()
    artifacts = [Artifact(f"dist/linux_{arch}/a", "linux", arch) for arch in ("b", "a")]
    for one in artifacts:
        medium.write_text(one.path, one.arch)
    assert [one.arch for one in archive_all(medium, artifacts)] == ["b", "a"]
    assert [one.path for one in archive_all_xz(medium, artifacts)] == [
        "dist/a_linux_b.tar.xz",
        "dist/a_linux_a.tar.xz",
    ]


def test_two_artifacts_that_would_be_one_archive_are_refused_before_any_is_made() -> None:
    medium = MemoryMedium()
    medium.write_text("a/x.exe", "")
    medium.write_text("a/x", "")
    with pytest.raises(ArchiveError, match=r"a/x\.tar\.gz"):
        archive_all(medium, [Artifact("a/x.exe"), Artifact("a/x")])
    assert medium.list("a") == ["x", "x.exe"]


def test_an_invalid_artifact_is_one_clear_error() -> None:
    medium = MemoryMedium()
    medium.ensure_dir("dist/linux_amd64/dir")
    medium.write_text("dist/linux_amd64/file", "")
    with pytest.raises(ArtifactError, match="it is empty"):
        archive(medium, Artifact(""))
    with pytest.raises(ArtifactMissingError, match=r"(?s)'dist/no'.*Build it first"):
        archive(medium, Artifact("dist/no"))
    with pytest.raises(ArtifactError, match="directory where a file is expected"):
        archive(medium, Artifact("dist/linux_amd64/dir"))
    with pytest.raises(ArtifactError, match="file where a directory is expected"):
        archive(medium, Artifact("dist/linux_amd64/file", tree=True))
    with pytest.raises(ArchiveError, match="'rar' is not an archive format"):
        archive_with_format(medium, APP, "rar")
    with pytest.raises(ArchiveError, match="'best' is not an archive profile"):
        archive(medium, APP, profile="best")
    assert medium.list("dist") == ["linux_amd64"]


@pytest.mark.parametrize("link", ["/etc/passwd", "../../../secret", ".."])
def test_a_link_out_of_a_bundle_is_refused(tmp_path: Path, link: str) -> None:
    artifact = bundle(tmp_path)
    (tmp_path / artifact.path / "bad").symlink_to(link)
    with pytest.raises(ArchiveError, match="leads out"):
        archive(LocalMedium(tmp_path), artifact)
    assert os.listdir(tmp_path / "dist") == ["darwin_arm64"]  # noqa: PTH208 - hidden ones too


def test_a_pipe_in_a_bundle_is_refused(tmp_path: Path) -> None:
    artifact = bundle(tmp_path)
    os.mkfifo(tmp_path / artifact.path / "pipe")
    with pytest.raises(ArchiveError, match="a pipe or a socket"):
        archive(LocalMedium(tmp_path), artifact)


def test_a_name_that_steers_a_terminal_is_refused(tmp_path: Path) -> None:
    artifact = bundle(tmp_path)
    (tmp_path / artifact.path / "a\x1b[2J").write_text("")
    with pytest.raises(ArchiveError, match="characters"):
        archive(LocalMedium(tmp_path), artifact)


@pytest.mark.parametrize("name", ["a:b", "aux.txt", "what?", "end.", "dir/Nul", "README"])
def test_a_name_that_windows_cannot_have_is_refused_for_windows(name: str) -> None:
    medium = MemoryMedium()
    for one in ("readme", "dir/x", name):
        medium.ensure_dir(f"dist/app/{one}".rpartition("/")[0])
        medium.write_text(f"dist/app/{one}", "")
    with pytest.raises(ArchiveError, match="Windows"):
        archive_with_format(medium, Artifact("dist/app", "windows", "amd64", tree=True), "zip")
    archive_with_format(medium, Artifact("dist/app", "linux", "amd64", tree=True), "gz")


def test_a_tree_may_be_deeper_than_pythons_recursion() -> None:
    medium = MemoryMedium()
    path = "t/" + "/".join(["d"] * 1100)
    medium.write_text(f"{path}/f", "x")
    made = archive_with_format(medium, Artifact("t", tree=True), Format.ZIP)
    with medium.open(made.path) as file, zipfile.ZipFile(file) as inside:
        assert inside.read(f"{path}/f") == b"x"


def test_a_file_that_grows_while_it_is_read_is_an_error() -> None:
    class Growing(MemoryMedium):
        def open(self, path: StrPath) -> BinaryIO:
            self.write_bytes(path, self.read_bytes(path) + b"more")
            return super().open(path)

    medium = Growing()
    medium.write_bytes(APP.path, b"x")
    with pytest.raises(ArchiveError, match="changed while"):
        archive(medium, APP)
    assert medium.list("dist") == ["linux_amd64"]


@pytest.mark.parametrize("form", Format)
def test_a_failure_at_any_step_leaves_no_archive(form: Format) -> None:
    medium = MemoryMedium()
    medium.write_bytes(APP.path, some_data(300_000))
    whole = FaultyMedium(medium.fork())
    made = archive_with_format(whole, APP, form)
    assert whole.exists(made.path)
    for step in range(1, whole.steps):
        faulty = FaultyMedium(medium.fork(), plan=f"{step}:short")
        with pytest.raises(CoreInfraError):
            archive_with_format(faulty, APP, form)
        assert not faulty._medium.exists(made.path), faulty.replay


def test_a_killed_archiver_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    medium = LocalMedium(tmp_path)
    (tmp_path / "dist/linux_amd64").mkdir(parents=True)
    with (tmp_path / APP.path).open("wb") as file:
        file.truncate(40 << 30)  # minutes of work
    script = f"""
from core_infra.build._archives.archive import archive
from core_infra.build._artifact import Artifact
from core_infra.medium import LocalMedium
archive(LocalMedium({str(tmp_path)!r}), Artifact({APP.path!r}, "linux", "amd64"))
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    while not any(path.stat().st_size for path in (tmp_path / "dist").glob(".*")):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert medium.list("dist") == ["linux_amd64"]
    medium.write_bytes(APP.path, b"small")
    made = archive(medium, APP)
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == [
        "linux_amd64",
        Path(made.path).name,
    ]


def test_memory_does_not_grow_with_the_artifact(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from core_infra.build._archives.archive import archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.medium import LocalMedium
artifact = Artifact({APP.path!r}, "linux", "amd64")
medium = LocalMedium({str(tmp_path)!r})
made = archive_with_format(medium, artifact, sys.argv[1], profile="fast", threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    (tmp_path / "dist/linux_amd64").mkdir(parents=True)
    peaks = {}
    for form in ("gz", "zip"):
        for size in (8 << 20, 128 << 20):
            with (tmp_path / APP.path).open("wb") as file:
                file.truncate(size)
            argv = [sys.executable, "-c", script, form]
            ran = subprocess.run(argv, capture_output=True, text=True, check=True)
            peaks[form, size] = int(ran.stdout) << 10
        assert peaks[form, 128 << 20] < peaks[form, 8 << 20] + (48 << 20)


def test_source_date_epoch_is_read_from_the_environment() -> None:
    assert source_date_epoch({}) == 315532800
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "1700000000"}) == 1_700_000_000
    for wrong in ("now", "-1", "1.5", "9" * 30, "٣"):
        with pytest.raises(ArtifactError, match="number of seconds"):
            source_date_epoch({"SOURCE_DATE_EPOCH": wrong})


def test_targets_are_printed_and_read_as_os_and_arch() -> None:
    assert str(Target("linux", "amd64")) == "linux/amd64"
    assert Target.parse("linux/amd64") == Target("linux", "amd64")
    for wrong in ("linux", "../../x", "linux/a/b", "Linux/amd64", "/", "a/-o"):
        with pytest.raises(ArtifactError):
            Target.parse(wrong)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3 << 20), max_size=3), st.sampled_from(["gz", "zip"]), st.booleans())
def test_any_tree_comes_back(sizes: list[int], form: str, fast: bool) -> None:  # noqa: FBT001
    medium = MemoryMedium()
    medium.ensure_dir("t")
    for number, size in enumerate(sizes):
        medium.write_bytes(f"t/{number}", DATA[:size])
    profile = Profile.FAST if fast else Profile.DEFAULT
    made = archive_with_format(medium, Artifact("t", tree=True), form, profile=profile)
    with medium.open(made.path) as file:
        if form == "zip":
            with zipfile.ZipFile(file) as inside:
                found = [inside.read(name) for name in inside.namelist()[1:]]
        else:
            with gzip.open(file) as plain, tarfile.open(fileobj=plain) as tar:
                readers = [tar.extractfile(one) for one in tar.getmembers()[1:]]
                found = [reader.read() for reader in readers if reader]
    assert found == [DATA[:size] for size in sizes]
