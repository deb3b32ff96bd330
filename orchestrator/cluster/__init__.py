"""The Ray cluster: connecting to it, what a replica takes of it, and shipping code there."""
