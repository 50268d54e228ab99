"""Images of LinuxKit files: templates, their variables, and the program that builds them."""
