"""How each kind of project is built."""
