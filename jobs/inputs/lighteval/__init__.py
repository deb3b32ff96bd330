"""Details that lighteval saves."""
