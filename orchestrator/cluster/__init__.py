"""The Ray cluster: connecting to it, resources of replicas, and shipping code there."""
