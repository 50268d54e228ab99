"""Faults of a machine's hardware: what they do, and until when."""
