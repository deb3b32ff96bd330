"""From answers on disk to a verdict: one reader per kind of input, one common form, one set of outputs.

The readers know files, `stats` knows mathematics, and `jobs.scores.score_set.ScoreSet` connects them: for any
input format the comparison sees the same columns. Nothing here imports Ray, an engine or lm-eval, so `lldeg
analyze` starts in about a second and runs on machines that could not run a model.
"""
