"""Addresses of releases."""

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._images.debian.release import Release, find_release, host_release


@pytest.mark.parametrize(
    ("address", "suite", "expected"),
    [
        ("debian:12", None, Release("debian", "bookworm")),
        ("debian:trixie", None, Release("debian", "trixie")),
        ("debian:12", "bookworm", Release("debian", "bookworm")),
        ("ubuntu:22.04", None, Release("ubuntu", "jammy")),
        ("", "jammy", Release("ubuntu", "jammy")),
        ("", "trixie", Release("debian", "trixie")),
        ("ubuntu", "noble", Release("ubuntu", "noble")),
    ],
)
def test_a_release_is_named_by_number_codename_or_suite(
    address: str, suite: str | None, expected: Release
) -> None:
    assert find_release(address, suite) == expected


def test_without_a_name_it_is_the_release_of_this_host() -> None:
    host = host_release()
    assert host is not None
    assert find_release() == host
    assert find_release(host.distribution) == host


@pytest.mark.parametrize(
    ("address", "suite", "message"),
    [
        ("debian:99", None, "no release '99' of Debian"),
        ("debian:12", "trixie", "debian:12 is bookworm, and the suite is trixie"),
        ("debian", "no/path", "'no/path' is not the name of a release"),
        ("debian:../x", None, "no release '../x'"),
    ],
)
def test_an_unknown_release_is_refused(address: str, suite: str | None, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        find_release(address, suite)
