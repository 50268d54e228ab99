"""Publishes a finished release: to GitHub or Forgejo, to a package index."""
