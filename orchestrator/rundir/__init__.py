"""The run directory: its paths, its files, and what programs on other machines may read and write there."""
