"""Null distributions of sums: exact where there is a lattice or few signs, else drawn."""
