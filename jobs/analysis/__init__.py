"""From scores to verdicts; without Ray, engines and lm-eval, so that `lldeg analyze` starts in a second."""
