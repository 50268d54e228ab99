"""``python -m core_infra``: the command ``core-infra``, by this Python."""

from core_infra._cli.main import main

main(prog_name="core-infra")
