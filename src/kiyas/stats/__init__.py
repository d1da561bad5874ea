"""Pure functions: intervals, tests, meta-analysis."""
