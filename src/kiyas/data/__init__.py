"""Rows and problems in: training data, benchmarks, the Hub, chat text as tokens."""
