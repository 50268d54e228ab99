"""Signing by the tools of each platform, behind one interface."""
