"""The reaper: a small program that is the parent and subreaper of all children."""
