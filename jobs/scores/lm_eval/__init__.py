"""Output folders of `lm_eval --log_samples`."""
