"""What scores mean: which direction is better, how far they can range, and how large a drop is acceptable."""
