"""Runs our clients against mock servers made from the forges' complete published descriptions.

Run: nox -s conformance -- FORGEJO_SWAGGER

Not part of the test suite: NODE_MODULES needs @stoplight/prism-cli and, as api_subset.py does,
@octokit/openapi, @octokit/graphql-schema and @octokit/webhooks-examples. Prism refuses requests
that are not as described. Afterwards the recorded
subset in fixtures/api is compared with the descriptions.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError
from core_infra.jobrunner import (
    Forgejo,
    ForgeNotFoundError,
    ForgeRefusedError,
    GitHub,
    Merge,
    Pull,
    Repo,
    Token,
)
from jobs import api_subset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = Repo("acme", "widgets")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
PULL = Pull(1, "", "", "OPEN", False, "0" * 40, "UNKNOWN")  # noqa: FBT003 - a mark of a draft


@contextlib.contextmanager
def prism(modules: Path, description: Path) -> Iterator[str]:
    """A mock server; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = modules / ".bin" / "prism"
    command: list[str | Path] = [program, "mock", "--errors", "--port", str(port), description]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    """Wait until something listens; large descriptions take a while to read."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.2)
    sys.exit("prism does not start")


def rest(forge: GitHub | Forgejo) -> dict[str, Callable[[], Any]]:
    """Every request that both clients make by REST."""
    return {
        "epics": lambda: forge.epics(REPO, "epic"),
        "has_news": lambda: forge.has_news(REPO),
        "epic": lambda: forge.epic(REPO, 1),
        "comments": lambda: list(forge.comments(REPO, 1, SINCE)),
        "comment": lambda: forge.comment(REPO, 1, "hello"),
        "edit_comment": lambda: forge.edit_comment(REPO, 1, "hello"),
        "edit_body": lambda: forge.edit_body(REPO, 1, lambda _: "text"),
        "close_issue": lambda: forge.close_issue(REPO, 1),
    }


def only_forgejo(forge: Forgejo) -> dict[str, Callable[[], Any]]:
    """What GitHub has in GraphQL only."""
    return {
        "children": lambda: forge.children(REPO, [1]),
        "details": lambda: forge.details(REPO, [PULL]),
        "is_merging": lambda: forge.is_merging(REPO, 1),
        "pull": lambda: forge.pull(REPO, 1),
        "merge": lambda: forge.merge(REPO, 1, "0" * 40, Merge()),
        "publish": lambda: forge.publish(REPO, 1),
        "settle_reviews": lambda: forge.settle_reviews(REPO, 1),
    }


def failures(name: str, calls: dict[str, Callable[[], Any]]) -> Iterator[str]:
    """Make all calls; report those that are refused."""
    for what, call in calls.items():
        try:
            call()
        except (ForgeRefusedError, ForgeNotFoundError) as error:
            yield f"{name} {what}: {error}"
        except CoreInfraError as error:
            # What a mock makes up is not always of its own description; the tests have real ones.
            print(f"  the answer cannot be used: {error}")
        print(f"{name} {what}")


def main() -> None:
    """Check all; exit code 1 if something is wrong."""
    modules, swagger = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    github = json.loads((modules / "@octokit/openapi/generated/api.github.com.json").read_text())
    # The other thousand paths would take it minutes.
    github["paths"] = {path: github["paths"][path] for path in api_subset.GITHUB}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        token = Path(directory, "token")
        token.write_text("none")
        Path(directory, "github.json").write_text(json.dumps(github))
        with prism(modules, Path(directory, "github.json")) as url:
            client = GitHub(Token(file=token), url, pause=0)
            wrong += failures("GitHub", rest(client))
        # Prism leaves the basePath out.
        forgejo_ = json.loads(swagger.read_text())
        base = forgejo_.pop("basePath")
        forgejo_["paths"] = {
            f"{base}{path}": forgejo_["paths"][path] for path in api_subset.FORGEJO
        }
        Path(directory, "forgejo.json").write_text(json.dumps(forgejo_))
        with prism(modules, Path(directory, "forgejo.json")) as url:
            forgejo = Forgejo(url, Token(file=token))
            wrong += failures("Forgejo", {**rest(forgejo), **only_forgejo(forgejo)})
    for name, text in api_subset.make(modules, swagger).items():
        if (api_subset.OUT / name).read_text() != text:
            wrong.append(f"fixtures/api/{name} is not what is published now")
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
