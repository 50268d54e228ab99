"""The runner: runs specs as soon as their dependencies allow, watches them, and reports on them.

:mod:`runner` is the entry; :mod:`engine` carries out a :mod:`schedule` with one of the
:mod:`backends`.
"""
