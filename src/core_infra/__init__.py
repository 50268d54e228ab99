"""Test infrastructure for Python: real machines, real processes, real build artifacts."""
