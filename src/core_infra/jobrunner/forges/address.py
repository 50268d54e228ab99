"""The address of a forge's API."""

from __future__ import annotations

import urllib.parse

from core_infra.errors import InvalidError


def checked(url: str) -> str:
    """The address itself, if a client can use it.

    Raises:
        InvalidError: it is not of the form ``https://HOST``, or has credentials in it, which
            would get into logs; the error does not repeat them.
    """
    if "@" in url:
        raise InvalidError(
            "the address of the forge has credentials in it",
            why="they would be in logs and errors",
            todo="Put the token into token_env or token_file.",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # as of a port that is no number
        usable = False
    if not usable:
        raise InvalidError(
            f"{url!r:.200} is not the address of a forge",
            todo="Give one such as https://git.example.org.",
        )
    return url
