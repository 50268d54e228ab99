"""A fork server for QEMU: copies of a running machine's process in milliseconds."""
