"""Event loops for the descriptors of child processes and virtual machines.

One supervisor thread serves everything (:mod:`supervisor`); a thread that waits anyway may run a
loop of its own (:mod:`caller_loop`).
"""
