"""Ways into a machine's inside: core-infra's agent, QEMU's agent, SSH."""
