"""A sweep as it runs: the dispatcher in the driver, and the replicas that answer blocks."""
