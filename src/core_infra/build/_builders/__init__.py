"""The builders, one module for each type of project."""
