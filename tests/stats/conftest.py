"""Property tests here draw the same examples every time and have no deadline: CI machines are slow."""

from hypothesis import settings

settings.register_profile("stats", deadline=None, derandomize=True)
settings.load_profile("stats")
