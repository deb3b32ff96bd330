"""Ground floor: the statistics of lldeg, as pure functions on arrays.

Nothing here reads a file, knows a model or prints; numpy and scipy are all it needs. The front door is
`stats.comparison`, which turns paired item scores into a verdict; every other module is one test, one
interval or one law, usable on its own.
"""
