"""Lock files: the packages that a project ships, without those for developers only."""
