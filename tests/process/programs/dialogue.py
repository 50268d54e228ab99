"""Ask for a name on a terminal, then read lines until the end of the input."""

import os
import sys

assert os.isatty(0)
assert os.isatty(1)
assert os.isatty(2)
assert os.tcgetpgrp(0) == os.getpgid(0), "the terminal is not ours"
name = input("your name? ")
print("hello,", name, os.get_terminal_size().columns)
while True:
    try:
        input("> ")
    except KeyboardInterrupt:
        print("interrupted")
    except EOFError:
        sys.exit(7)
