"""The page: what an analysis found, for people, with the answers behind it.

`write_analysis` leaves it, beside the verdicts, as one file that needs nothing else; `server` serves the same
page for runs whose flips are too many for a file. The numbers come from the fields of verdicts.json, and each
appears in the page twice, rounded to be read and in full to be checked (`<data value>`).
"""
