"""The journal: a write-ahead log of actions, and what is read from it."""
