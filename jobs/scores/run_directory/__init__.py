"""Run directories that lldeg wrote itself."""
