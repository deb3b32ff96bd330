"""A sweep before it runs: prompts built, models identified, the work still owed cut into blocks."""
