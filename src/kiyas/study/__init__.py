"""What was asked: the study file and its settings."""
