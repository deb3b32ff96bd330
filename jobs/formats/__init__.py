"""The formats of inputs: how each is recognised and read, and what a sample is."""
