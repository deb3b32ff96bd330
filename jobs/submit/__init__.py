"""What `lldeg submit` and `lldeg.submit` do: run a sweep here, forecast it, or hand it to a Ray cluster."""
