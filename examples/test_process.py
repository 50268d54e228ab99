"""Programs of this host: started, waited for, typed to, and gone after the test. No machine."""

import sys
import urllib.request

import pytest

from core_infra.process import LogPattern, RunOptions, Service

SERVER = """
import http.server
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print("listening on port", server.server_port, flush=True)
server.serve_forever()
"""


def test_a_server_that_chooses_its_own_port(core_process: Service) -> None:
    server = core_process.start(sys.executable, "-c", SERVER)
    listening = LogPattern(r"listening on port (\d+)")
    server.wait_ready(listening)
    assert listening.match
    with urllib.request.urlopen(f"http://127.0.0.1:{listening.match[1]}/") as answer:
        assert answer.status == 200
    server.stop()  # a program that a test leaves running is ended, and fails the test


@pytest.mark.core_process(allow_leftovers=True)  # unless the test says so
def test_a_program_that_asks(core_process: Service) -> None:
    shell = core_process.start_with_options(RunOptions("bash", ["--norc"], pty=True))
    shell.terminal.sendline("read -p 'Your name? ' name; echo Hello, $name")
    shell.terminal.expect("Your name")
    shell.terminal.sendline("World")
    shell.terminal.expect("Hello, World")
