"""Comparing what different tools wrote: which items, tasks and metrics are the same."""
