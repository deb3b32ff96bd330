"""Middle floor: everything a sweep needs, from the configuration to the files of a run."""
