"""How large the drop is: intervals, and whether it is below a margin."""
