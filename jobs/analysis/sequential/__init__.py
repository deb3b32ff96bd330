"""Runs that stop their variants early: their plan, their looks, and the policy that decides during a sweep.

`submit` and `analyze` take the same looks in the same way, so both come to the same decisions.
"""
