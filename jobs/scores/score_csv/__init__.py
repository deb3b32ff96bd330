"""CSV files with one score per row."""
