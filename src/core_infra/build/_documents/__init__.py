"""The documents that describe a release: checksums, manifest, SBOM, provenance."""
