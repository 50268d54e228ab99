"""Event loops: descriptors and timers that one thread waits for."""
