"""The default guest image: found in the cache, or built from the host's own packages."""
