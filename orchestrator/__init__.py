"""Middle floor: configuration, plan, tasks, engines, replicas, dispatch and the run directory."""
