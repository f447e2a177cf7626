"""Flows in continuous time: a velocity carries noise to data, and data back to noise."""
