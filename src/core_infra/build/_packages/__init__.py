"""Packages of programs for Linux distributions: deb and rpm."""
