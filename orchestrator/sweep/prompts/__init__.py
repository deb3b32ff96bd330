"""How prompts are put together: chat templates, and the random state that tasks shuffle with."""
