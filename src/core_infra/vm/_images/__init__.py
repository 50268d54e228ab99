"""Guest images: the default one, and those that users bring."""
