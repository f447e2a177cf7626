"""Renders samples to look at or listen to, for each kind of data."""
