"""Sample files in the schema of Every Eval Ever."""
