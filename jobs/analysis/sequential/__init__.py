"""Runs that stop their variants early: `submit` and `analyze` take the same looks in the same way."""
