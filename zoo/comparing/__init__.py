"""Comparisons of methods under one budget: ``python -m zoo compare NAME``."""
