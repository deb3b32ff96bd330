"""Results of verifiers."""
