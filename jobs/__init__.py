"""Top floor: what a person launches, one module per command."""
