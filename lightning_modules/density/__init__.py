"""Densities in closed form: eq. 1.14 and 1.15 hold by a proof, not by a constraint."""
