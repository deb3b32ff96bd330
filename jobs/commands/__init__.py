"""One module per command of `lldeg`."""
