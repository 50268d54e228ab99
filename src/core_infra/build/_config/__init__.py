"""The project's build.yaml: read, checked, and explained where it is wrong."""
