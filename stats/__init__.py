"""Ground floor: the statistics of lldeg, as pure functions on arrays.

Nothing here reads a file, knows a model or prints; numpy and scipy are all it needs. The front doors are
`stats.comparison`, which turns paired item scores into a verdict, and `stats.sequential.monitor`, which does
so while scores come in. Below them, from the top down:

- `planning` says what would decide, or what a plan can show;
- `tasks` tests over several tasks together, `drop` bounds the size of the drop;
- `signflip` is the test of one sum, and `distributions` its null distribution: exact where there is a lattice
  or few signs, else drawn;
- `scores` are the data: pairs, and what is missing; `sharing` says which items belong together.
"""
