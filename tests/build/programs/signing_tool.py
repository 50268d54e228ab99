"""Stands for codesign, security, ditto, xcrun and signtool where these cannot be.

It takes the arguments that they take, writes them down, and answers as they do. FAKE_FAIL names
the step that fails.
"""

import getpass
import json
import os
import shutil
import sys
from pathlib import Path

MARK = b"\nsigned by the fake"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    tool, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    with Path(os.environ["FAKE_LOG"]).open("a") as log:
        log.write(json.dumps([tool, *arguments]) + "\n")
    step = " ".join([tool, *(word for word in arguments if not word.startswith("/"))])
    if os.environ.get("FAKE_FAIL", "never") in step:
        sys.stderr.write("error: the fake was told to fail\n")
        return 1
    steps = {
        "codesign": codesign,
        "signtool": signtool,
        "security": security,
        "ditto": ditto,
        "xcrun": xcrun,
    }
    return steps[tool](arguments)


def codesign(arguments: list[str]) -> int:
    path = Path(arguments[-1])
    file = path / "Contents/_CodeSignature" if path.is_dir() else path
    if "--verify" in arguments:
        return 0 if file.read_bytes().endswith(MARK) else 1
    file.write_bytes((file.read_bytes() if file.exists() else b"") + MARK)
    return 0


def signtool(arguments: list[str]) -> int:
    path = Path(arguments[-1])
    if arguments[0] == "verify":
        return 0 if path.read_bytes().endswith(MARK) else 1
    path.write_bytes(path.read_bytes() + MARK)
    return 0


def security(_arguments: list[str]) -> int:
    say('  1) 0123456789ABCDEF0123456789ABCDEF01234567 "Developer ID Application: Me (T1)"')
    say("     1 valid identities found")
    return 0


def ditto(arguments: list[str]) -> int:
    target = arguments[-1]
    made = shutil.make_archive(target, "zip", Path(arguments[-2]).parent)
    Path(made).rename(target)
    return 0


def xcrun(arguments: list[str]) -> int:
    if arguments[0] == "stapler":
        ticket = Path(arguments[-1], "Contents/CodeResources")
        if arguments[1] == "staple":
            ticket.write_bytes(b"ticket")
        return 0 if ticket.exists() else 65
    password = getpass.getpass("Password for me@example.org: ")
    if password != os.environ["FAKE_PASSWORD"]:
        say("Error: HTTP status code: 401. Invalid credentials.")
        return 69
    status = os.environ.get("FAKE_STATUS", "Accepted")
    answer = {"id": "2efe2717-52ef-43a5-96dc-0797e4ca1041", "status": status}
    say(json.dumps({**answer, "message": "Processing complete"}))
    return 0


sys.exit(main())
