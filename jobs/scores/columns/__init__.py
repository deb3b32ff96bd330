"""Any JSON Lines or CSV file, by the names of its columns."""
