"""OCI images: fetched from registries and archives, kept in a layout, merged into one tree."""
