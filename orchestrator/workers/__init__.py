"""A running sweep: the dispatcher in the driver, and the replicas that answer blocks."""
