"""The command ``core-infra``."""
