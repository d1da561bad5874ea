"""When two texts or programs are the same."""
