"""The version of Kıyas, on the ground floor: every room may name it."""

VERSION = "0.1.0"
