"""Kıyas: which training data makes the better code model?"""

__version__ = "0.1.0"
