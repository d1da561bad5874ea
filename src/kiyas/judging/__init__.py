"""Completions → the judge → judgments."""
