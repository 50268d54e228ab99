"""Machines: options, marker, fixtures, and what runs them."""
