"""Samples as what verdicts are computed from: scores averaged over reruns, or rerun by rerun."""
