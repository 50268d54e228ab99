"""Root disks made of a tree of files, without root and without programs of the host."""
