"""Machines that stand still, to be cloned: on disk, and in a hypervisor's memory."""
