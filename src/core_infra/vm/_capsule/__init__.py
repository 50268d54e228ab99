"""Capsules: one file with what is known of a failed test, and its machines as they stood."""
