"""Densities in closed form, which satisfy eq. 1.14 and 1.15 by construction."""
