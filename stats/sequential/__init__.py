"""Comparisons that are looked at while scores come in, and stopped once they are decided."""
