"""Snapshots of machines on disk and in memory, and the clones that are made from them."""
