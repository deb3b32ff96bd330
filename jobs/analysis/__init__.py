"""From answers on disk to a verdict: one reader per kind of input, one common form, one set of outputs.

The readers know files, `stats` knows mathematics, and `scores.ScoreSet` stands between them: whatever the
input was, the comparison sees the same columns. Nothing here imports Ray, an engine or lm-eval, so that
`lldeg analyze` starts in about a second and runs where no model ever will.
"""
