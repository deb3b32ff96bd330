"""Everything that can be analyzed: one folder per input format, and the common form they are read into."""
