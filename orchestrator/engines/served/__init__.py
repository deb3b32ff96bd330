"""Talking to a server that may be busy, broken, away or hostile."""
