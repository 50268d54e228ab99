"""Debian and Ubuntu systems made of packages, without root and without debootstrap."""
