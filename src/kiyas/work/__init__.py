"""Who works, and how far the work is."""
