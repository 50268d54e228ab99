"""What runs machines: the port, and QEMU behind it."""
