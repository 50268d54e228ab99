"""Signs and notarizes macOS programs, by Xcode's tools."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import real_path
from core_infra.build._errors import SigningUnavailableError
from core_infra.build._signing.tool import failed, find_tool, run_tool, run_with_prompt

if TYPE_CHECKING:
    from core_infra.build._secret import Secret
    from core_infra.medium._medium import Medium

_ACCEPTED = "Accepted"
_NOTARY_TIMEOUT = 3600.0


class CodesignSigner:
    """Signs macOS programs and application bundles with an identity of the keychain.

    Args:
        identity: as shown by ``security find-identity``: "Developer ID Application: …".
    """

    name = "codesign"

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def check(self) -> str:
        """Check that codesign is installed and the keychain has the identity."""
        find_tool("codesign")
        ran = run_tool(["security", "find-identity", "-v", "-p", "codesigning"])
        if self._identity not in ran.stdout.decode(errors="replace"):
            raise SigningUnavailableError(
                f"codesign cannot sign as {self._identity!r}",
                why="the keychain has no valid identity of this name",
                todo="security find-identity -v -p codesigning lists the available ones.",
                identity=self._identity,
            )
        return f"codesign, {self._identity}"

    def sign(self, medium: Medium, path: str) -> str:
        """Sign a program or a bundle in place, with the hardened runtime."""
        real = real_path(medium, path)
        argv = ["codesign", "--force", "--timestamp", "--options", "runtime"]
        argv += ["--sign", self._identity, real]
        ran = run_tool(argv)
        if ran.exit_code:
            raise failed(f"codesign could not sign {path!r}", argv, ran)
        verify = ["codesign", "--verify", "--strict", "--verbose=2", real]
        ran = run_tool(verify)
        if ran.exit_code:
            raise failed(f"codesign does not accept its signature of {path!r}", verify, ran)
        return path


class AppleNotary:
    """Submits signed programs to Apple for notarization, and staples the ticket to bundles.

    Args:
        apple_id: the developer's account.
        team_id: the account's team.
        password: the account's app-specific password.
    """

    name = "notarize"

    def __init__(self, apple_id: str, team_id: str, password: Secret) -> None:
        self._apple_id = apple_id
        self._team_id = team_id
        self._password = password

    def check(self) -> str:
        """Check that Xcode is installed and the account is complete."""
        find_tool("xcrun")
        account = {
            "APPLE_ID": self._apple_id,
            "APPLE_TEAM_ID": self._team_id,
            "APPLE_APP_PASSWORD": self._password,
        }
        missing = [name for name, value in account.items() if not value]
        if missing:
            raise SigningUnavailableError(
                "macOS programs cannot be notarized",
                why=f"missing: {', '.join(missing)}",
                todo="Set these variables, or disable notarization.",
                missing=missing,
            )
        return f"notarytool, {self._apple_id} of {self._team_id}"

    def sign(self, medium: Medium, path: str) -> str:
        """Wait until Apple accepts the program; for a bundle, staple and validate the ticket."""
        real = real_path(medium, path)
        with tempfile.TemporaryDirectory(prefix="core-infra-notary-") as directory:
            packed = str(Path(directory, "submission.zip"))
            self._run(["ditto", "-c", "-k", "--keepParent", real, packed], path)
            self._submit(packed, path)
        if Path(real).is_dir():  # a plain program cannot have a ticket: macOS queries Apple
            self._run(["xcrun", "stapler", "staple", real], path)
            self._run(["xcrun", "stapler", "validate", real], path)
        return path

    def _submit(self, packed: str, path: str) -> None:
        argv = ["xcrun", "notarytool", "submit", packed, "--wait", "--output-format", "json"]
        argv += ["--apple-id", self._apple_id, "--team-id", self._team_id]
        # Without --password it prompts on the terminal. Unlike the older altool, it cannot read the
        # password from a variable or descriptor.
        ran = run_with_prompt(argv, "[Pp]assword.*: *", self._password, timeout=_NOTARY_TIMEOUT)
        text = ran.stdout.decode(errors="replace")
        try:
            answer = json.loads(text[text.index("{") : text.rindex("}") + 1])
            accepted = answer.get("status") == _ACCEPTED
        except (ValueError, AttributeError):
            accepted = False
        if ran.exit_code or not accepted:
            raise failed(f"Apple did not notarize {path!r}", argv, ran, [self._password])

    def _run(self, argv: list[str], path: str) -> None:
        ran = run_tool(argv)
        if ran.exit_code:
            raise failed(f"{path!r} could not be notarized", argv, ran, [self._password])
