"""The page: what an analysis found, for people: a file (`write`), or served with all its flips (`server`)."""
