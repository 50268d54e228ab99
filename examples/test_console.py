"""The serial console: the output of the boot, and a terminal to type on."""

import re

from core_infra.vm import Machine

PROMPT = "core-infra:"


def test_type_on_the_console(core_vm: Machine) -> None:
    assert "Linux version" in core_vm.logs()  # all output of the console so far

    # ``console`` is a pexpect object: https://pexpect.readthedocs.io
    # It starts at the first line of the boot; at the end, a root shell waits for input.
    console = core_vm.console
    console.expect_exact(PROMPT)
    console.sendline("echo $((6 * 7))")
    console.expect(re.compile(r"^42\r$", re.MULTILINE))


def test_a_program_that_asks(core_vm: Machine) -> None:
    core_vm.write_text("/root/ask", "read -p 'Your name? ' name; echo \"Hello, $name.\"\n")
    console = core_vm.console
    console.expect_exact(PROMPT)
    console.sendline("sh /root/ask")
    console.expect_exact("Your name? ")
    console.sendline("Ada")
    console.expect_exact("Hello, Ada.")
