"""The frozen base and its stacked adapters."""
