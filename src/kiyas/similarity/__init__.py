"""When two programs are the same."""
