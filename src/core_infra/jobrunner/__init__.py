"""Signals in, actions out, and a record of what was done that survives anything."""
