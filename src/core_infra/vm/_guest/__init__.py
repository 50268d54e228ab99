"""The inside of a machine: the agent, its protocol, and what is done through it."""
