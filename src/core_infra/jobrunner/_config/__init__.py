"""The configuration file: from its text to sources and handlers."""
