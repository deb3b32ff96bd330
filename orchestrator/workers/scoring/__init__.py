"""Scoring in processes of their own, where alarms work and a sample that never ends can be stopped."""
