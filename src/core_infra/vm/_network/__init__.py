"""Networks between the machines of a run, and their faults."""
