"""Answers rerun by rerun, which `lldeg flips` and `lldeg subset` need and `lldeg analyze` averages away."""
