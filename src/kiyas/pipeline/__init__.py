"""The whole run: stages, preparation, identity, status."""
