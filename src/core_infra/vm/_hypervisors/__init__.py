"""Hypervisors: what one must be able to do, and QEMU and Hyperkit, which can."""
