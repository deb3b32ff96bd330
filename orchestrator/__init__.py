"""The middle layer: everything a sweep needs, from its configuration to the files of a run."""
