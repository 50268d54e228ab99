"""A project's sources: its repository, the files that a build needs, their digest and copy."""
