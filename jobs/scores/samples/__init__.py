"""The form that every format but the run directory is read into: samples in columnar batches.

A format supplies these and nothing else; score means, reruns and run directories are derived from them here.
"""
