"""What apt is asked for, and its errors in one sentence."""

import shutil
from pathlib import Path

import pytest

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._images.debian.apt import Apt, check_packages
from core_infra.vm._images.debian.release import Release, host_release
from core_infra.vm._images.debian.sources import sources_of
from kernel_packages import Repository

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="this host has no apt")

RELEASE = Release("debian", "bookworm")


def apt(directory: Path, sources: str | None = None) -> Apt:
    return Apt(RELEASE, sources, "amd64", directory, lambda _line: None)


def test_packages_come_with_what_they_depend_on_and_are_downloaded_once(
    repository: Repository, tmp_path: Path
) -> None:
    repository.add("base", {"usr/bin/base": b"1"})
    library = repository.add("library", {"usr/lib/library": b"2"}, version="2:1.0")
    repository.add("app", {"usr/bin/app": b"3"}, depends="library")
    repository.add("other", {})
    found = apt(tmp_path / "apt").fetch(["base"], ["app"])
    assert sorted((deb.name, deb.version) for deb in found) == [
        ("app", "1:1.0"),
        ("base", "1:1.0"),
        ("library", "2:1.0"),
    ]
    assert list((tmp_path / "apt").rglob("lock-frontend")), "apt locks nothing of the host"
    content = {deb.name: deb.path.read_bytes() for deb in found}
    assert content["library"] == library.read_bytes()
    for deb in (repository.root / "pool").glob("*.deb"):
        deb.unlink()
    assert apt(tmp_path / "apt").fetch(["base"], ["app"]) == found


def test_a_pin_of_the_host_counts(repository: Repository, tmp_path: Path) -> None:
    repository.add("app", {}, version="1:1.0")
    repository.add("app", {}, version="2:1.0")
    assert [deb.version for deb in apt(tmp_path / "apt").fetch([], ["app"])] == ["2:1.0"]
    preferences = repository.root / "preferences"
    preferences.write_text("Package: app\nPin: version 1:*\nPin-Priority: 1001\n")
    with repository.config.open("a") as file:
        file.write(f'Dir::Etc::Preferences "{preferences}";\n')
    assert [deb.version for deb in apt(tmp_path / "apt").fetch([], ["app"])] == ["1:1.0"]
    assert [deb.version for deb in apt(tmp_path / "apt").fetch([], ["app=2:1.0"])] == ["2:1.0"]


def test_a_repository_that_is_added_is_noticed(repository: Repository, tmp_path: Path) -> None:
    repository.add("app", {})
    apt(tmp_path / "apt").fetch([], ["app"])
    (tmp_path / "second").mkdir()
    second = Repository(tmp_path / "second")
    second.add("other", {})
    with (repository.root / "sources.list").open("a") as file:
        file.write((second.root / "sources.list").read_text())
    assert [deb.name for deb in apt(tmp_path / "apt").fetch([], ["other"])] == ["other"]


def test_an_unknown_package_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.add("app", {})
    with pytest.raises(NotFoundError, match=r"debian:bookworm has no such package: .*\bnosuch"):
        apt(tmp_path / "apt").fetch([], ["app", "nosuch"])


def test_packages_that_do_not_fit_together_are_named(
    repository: Repository, tmp_path: Path
) -> None:
    repository.add("app", {}, depends="nosuch (>= 2)")
    with pytest.raises(InvalidError, match=r"packages app cannot be installed.*\n?.*nosuch"):
        apt(tmp_path / "apt").fetch([], ["app"])


def test_a_repository_that_is_not_signed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path, trusted=False)
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    repository.add("app", {})
    with pytest.raises(UnavailableError, match="their signature cannot be verified"):
        apt(tmp_path / "apt").fetch([], ["app"])
    assert not list((tmp_path / "apt").rglob("*.deb"))


def test_a_package_that_differs_from_its_index_is_refused(
    repository: Repository, tmp_path: Path
) -> None:
    deb = repository.add("app", {"usr/bin/app": b"1"})
    deb.write_bytes(deb.read_bytes().replace(b"!<arch>", b"!<arcX>"))
    with pytest.raises(Exception, match="app"):
        apt(tmp_path / "apt").fetch([], ["app"])
    assert not list((tmp_path / "apt").rglob("*.deb"))


def test_no_network_is_one_sentence(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = repository.root / "sources.list"
    sources.write_text("deb [trusted=yes] http://127.0.0.1:1/ ./\n")
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(UnavailableError, match="packages of debian:bookworm: no connection"):
        apt(tmp_path / "apt").fetch([], ["app"])


def test_without_apt_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="apt-get is not on PATH"):
        apt(tmp_path)


@pytest.mark.parametrize("name", ["", "-oX=1", "app-", "./app.deb", "a b", "?essential", 5])
def test_what_is_not_the_name_of_a_package_is_refused(name: object) -> None:
    with pytest.raises(InvalidError, match="is not the name of a package"):
        check_packages([name])


def test_another_release_has_the_mirrors_of_this_host_even_before_its_lists_are_fetched(
    repository: Repository,
) -> None:
    host = host_release()
    other = Release("debian", "trixie" if host == RELEASE else "bookworm")
    if host is None or host.distribution != "debian":
        pytest.skip("this host is not Debian")
    mirror = f"deb http://mirror.example/debian {host.codename} main\n"
    (repository.root / "sources.list").write_text(mirror)
    sources = sources_of(other, "amd64")
    assert sources is not None
    assert "URIs: http://mirror.example/debian" in sources
    assert f"Suites: {other.codename}\n" in sources


def test_another_release_needs_its_keys() -> None:
    if Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg").exists():
        pytest.skip("this host has the keys of Ubuntu")
    with pytest.raises(UnavailableError, match="no keys to verify them by") as caught:
        sources_of(Release("ubuntu", "jammy"), "amd64")
    assert caught.value.todo == "Install them: apt-get install ubuntu-keyring"
