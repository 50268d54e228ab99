"""The reaper: a small C program that is the parent of all child processes, and our side of it.

Its sources are in ``csrc/reaper``. :mod:`client` has what it can be asked for, :mod:`registry` the
one reaper of this process, :mod:`protocol` the format of requests and answers, :mod:`program` the
binary.
"""
