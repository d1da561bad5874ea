"""Decoding for the base and all checkpoints at once."""
