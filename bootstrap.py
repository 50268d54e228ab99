"""The one way in on a fresh machine: sets up what is missing, then runs a nox session.

    python3 bootstrap.py tests -k console

Needs nothing but Python. This file must parse on 3.6, so that an old Python says what is wrong.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the reader of this message has an older one
    sys.stderr.write(
        f"bootstrap.py: needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; "
        "start it with a newer one, as in: python3.11 bootstrap.py tests\n"
    )
    sys.exit(3)

import argparse
import ast
import errno
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Not sys.executable: that may be the Python of the .venv to be created again.
BASE = str(Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info)))
# Created before anything else in .venv, and completed last, so that interrupted runs are detected.
STAMP = VENV / ".bootstrap"
# By machine: the program, and the package of Debian and Ubuntu that has it.
QEMU = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86"),
    "aarch64": ("qemu-system-aarch64", "qemu-system-arm"),
}
# What only the test suite runs, each as its user would: program, its package, what for.
SUITE = {
    "php": ("php-cli", "to build PHP projects"),
    "composer": ("composer", "the same"),
    "git": ("git", "to distinguish a project's sources from build output"),
    "gpg": ("gnupg", "to sign releases"),
    "openssl": ("openssl", "to make certificates"),
    "osslsigncode": ("osslsigncode", "to sign Windows programs"),
    "pg_ctlcluster": ("postgresql", "to share a bot's journal among hosts"),
    "qemu-img": ("qemu-utils", "to make disks for machines"),
    "7z": ("p7zip-full", "to open archives as a downloader would"),
    "unzip": ("unzip", "the same"),
    "xz": ("xz-utils", "the same"),
    "cpio": ("cpio", "to unpack what a guest boots from"),
    "e2fsck": ("e2fsprogs", "to check file systems"),
    "rpmbuild": ("rpm", "to make packages"),
    "skopeo": ("skopeo", "to fill a registry"),
    "umoci": ("umoci", "to extract images"),
    "virtiofsd": ("virtiofsd", "to share directories with machines, where QEMU has none"),
}
# Programs that only other programs start need not be on PATH.
DAEMONS = "/usr/libexec:/usr/lib/qemu"
# Up to QEMU 7.2 virtiofsd is part of QEMU, and some releases have no package of it.
NOT_EVERYWHERE = ("virtiofsd",)
TOOLS = {
    "demo": {"qemu-img": SUITE["qemu-img"]},
    "tests": SUITE,
    "tests-long": SUITE,
    "tests-soak": SUITE,
    "fresh": {
        "debootstrap": ("debootstrap", "to make a bare Debian"),
        "git": ("git", "to clone this project into it"),
    },
}
EXIT_CODES = """\
exit codes:
  0    the session passed
  1    the session failed; its output is above
  2    wrong usage, or no such session
  3    Python is older than 3.11
  4    a system package is missing, and this user or this system can't install it
  5    apt-get failed
  6    no network, or one whose certificate is not trusted
  7    the disk is full
  8    the virtual environment cannot be created
  130  interrupted
"""
DISK_FULL = "a disk is full; df -h shows which"
# What apt-get, pip and venv say when they fail: our exit code, and what it means.
REASONS = {
    "no space left on device|enough free space": (7, DISK_FULL),
    "certificate verify failed": (6, "its server's certificate is not trusted; see PIP_CERT"),
    "temporary failure|(could not|unable to) (resolve|connect)|establish a new connection"
    "|timed out|unreachable|max retries": (6, "no network, or a proxy that is not configured"),
}


class SetupError(Exception):
    """The set-up can't go on: one sentence for the user, and the exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def main() -> int:
    """Set up what is missing, then become nox; returns an exit code only if that failed."""
    session, arguments = parse_arguments()
    try:
        packages = missing_packages(session)
        if packages:
            install_packages(packages)
        if not venv_is_ready():
            make_venv()
        say(f"nox -s {session}")
        os.chdir(ROOT)
        # Signals and the exit code are from here on between the user and nox.
        os.execv(PYTHON, [str(PYTHON), "-m", "nox", "-s", session, "--", *arguments])  # noqa: S606
    except SetupError as error:
        sys.stderr.write(f"bootstrap.py: {error}\n")
        return error.code
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        sys.stderr.write(f"bootstrap.py: {DISK_FULL if full else error}\n")
        return 7 if full else 8
    except KeyboardInterrupt:
        sys.stderr.write("\nbootstrap.py: interrupted; the next run takes up from here\n")
        return 130


def parse_arguments() -> "tuple[str, list[str]]":
    """Read the session and its arguments from the command line."""
    sessions = known_sessions()
    listed = "\n".join(f"  {name:11}  {line}" for name, line in sessions.items())
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        description="Set up what is missing on this machine, then run a nox session.",
        epilog=f"sessions:\n{listed}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("session", metavar="SESSION", help="one of the sessions below")
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own")
    rest.required = False
    found = parser.parse_args()
    if found.session not in sessions:
        parser.error(f"no session {found.session!r}; there are: {', '.join(sessions)}")
    # As with nox itself, a -- may set the session's arguments apart.
    return found.session, found.arguments[found.arguments[:1] == ["--"] :]


def known_sessions() -> "dict[str, str]":
    """The sessions of noxfile.py and what each is for, read without nox, which may be missing."""
    module = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {
        session_name(function, line): ast.get_docstring(function) or ""
        for function in module.body
        if isinstance(function, ast.FunctionDef)
        for line in function.decorator_list
        if ast.unparse(line).startswith("nox.session")
    }


def session_name(function: ast.FunctionDef, decorator: ast.expr) -> str:
    """What nox calls the session: the decorator's name=, or else the function's name."""
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    names = [keyword.value for keyword in keywords if keyword.arg == "name"]
    return str(ast.literal_eval(names[0])) if names else function.name


def missing_packages(session: str) -> "dict[str, str]":
    """The system packages that the session needs and this host lacks, and what each is for."""
    packages = {}
    if importlib.util.find_spec("ensurepip") is None:
        if sys.base_prefix != "/usr":
            raise SetupError(8, f"{sys.executable} was built without ensurepip: use another Python")
        name = "python{}.{}-venv".format(*sys.version_info)
        packages[name] = "to make virtual environments, which Debian's Python leaves out"
    if session not in ("lint", "fresh"):  # All others start machines on this host.
        machine = platform.machine()
        if machine not in QEMU:
            raise SetupError(4, f"{machine} has no guest image: use {' or '.join(QEMU)}")
        program, name = QEMU[machine]
        if shutil.which(program) is None:
            packages[name] = f"{program}, which runs the virtual machines"
    for program, (name, why) in TOOLS.get(session, {}).items():
        if not shutil.which(program) and not shutil.which(program, path=DAEMONS):
            packages[name] = why
    return packages


def offered(packages: "dict[str, str]") -> "list[str]":
    """The names without those of NOT_EVERYWHERE that this release does not have."""
    return [
        name
        for name in packages
        if name not in NOT_EVERYWHERE or run(["apt-cache", "show", name])[0] == 0
    ]


def install_packages(packages: "dict[str, str]") -> None:
    """Say what is missing and why, then install it with apt-get, as root or with sudo."""
    names = " ".join(packages)
    say("System packages are missing:")
    for name, why in packages.items():
        print(f"      {name}: {why}", flush=True)
    if shutil.which("apt-get") is None:
        raise SetupError(4, f"there is no apt-get: install the equivalents of {names} by hand")
    install = ["install", "-y", "--no-install-recommends"]
    sudo = []
    if os.geteuid() != 0:
        sudo = ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
        if not shutil.which("sudo") or subprocess.run([*sudo, "true"], check=False).returncode:
            by_hand = f"apt-get update && apt-get {' '.join(install + offered(packages))}"
            raise SetupError(4, f"neither root nor sudo: have an administrator type: {by_hand}")
    command = [*sudo, "env", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    command += ["-o", "DPkg::Lock::Timeout=300"]  # A fresh host may be upgrading itself.
    say("apt-get update")
    # Continue if it fails: a single dead source may not matter, and otherwise `install` fails.
    _, complaints = run([*command, "update"])
    install += offered(packages)
    say(f"apt-get {' '.join(install)} (about a minute)")
    code, output = run([*command, *install])
    if code != 0:
        raise explained(5, f"apt-get could not install {names}", complaints + output)


def venv_is_ready() -> bool:
    """Whether .venv was completed, by this Python, at this place, and still works."""
    return STAMP.is_file() and STAMP.read_text() == fingerprint() and venv_runs("import nox")


def venv_runs(statement: str) -> bool:
    """Whether the Python of .venv starts and can do this."""
    return PYTHON.exists() and run([str(PYTHON), "-c", statement])[0] == 0


def make_venv() -> None:
    """Create .venv again, with nox."""
    if not STAMP.exists() and venv_runs("pass"):
        raise SetupError(8, f"{VENV} is not from this script: move it away, then retry")
    say(f"{VENV}: a virtual environment with nox")
    if VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir()
    STAMP.write_text("unfinished")
    for command in ([BASE, "-m", "venv", str(VENV)], [str(PYTHON), "-m", "pip", "install", *nox()]):
        code, output = run(command)
        if code != 0:
            raise explained(8, f"{' '.join(command)} failed", output)
    STAMP.write_text(fingerprint())


def nox() -> "list[str]":
    """The requirements of nox, from pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [str(requirement) for requirement in pyproject["dependency-groups"]["nox"]]


def fingerprint() -> str:
    """All that .venv depends on: a virtual environment breaks if it is moved or Python changes.

    BASE identifies the Python well enough: another patch release of the same name does no harm,
    and apt-get may install one during this run.
    """
    return "\n".join([str(VENV), BASE, *nox()])


def run(command: "list[str]") -> "tuple[int, str]":
    """Run a program quietly; returns its exit code and output."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        # It got the Ctrl-C too. dpkg finishes its step first, and must not be killed in it.
        process.communicate()
        raise
    return process.returncode, output


def explained(code: int, sentence: str, output: str) -> SetupError:
    """Show the end of a failed program's output; the error says why it failed if that is known."""
    sys.stderr.writelines(f"    {line}\n" for line in output.splitlines()[-20:])
    # ensurepip hides why it failed; with so little left, a virtual environment can't be made.
    if shutil.disk_usage(ROOT).free < 32 * 2**20:
        output = "no space left on device"
    for words, (known, reason) in REASONS.items():
        if re.search(words, output, re.IGNORECASE):
            return SetupError(known, f"{sentence}: {reason}")
    return SetupError(code, f"{sentence}: its output is above")


def say(line: str) -> None:
    """Announce a step."""
    print(f"==> {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
