"""Energies: densities known up to a constant, and the chains that sample them (section 1.2.2)."""
