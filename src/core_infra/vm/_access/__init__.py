"""Ways to run commands in a machine: core-infra's agent, QEMU's agent, SSH."""
