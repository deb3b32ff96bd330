"""A sweep before it runs: checks, prompts, identities of models, and the owed work cut into blocks."""
