"""The page: what an analysis found, for people, with the answers behind it.

`write_report` leaves it as one file that needs nothing else; `server` serves the same page for runs whose
flips are too many for a file. The numbers come from the fields of verdicts.json, and each appears in the page
twice, rounded to be read and in full to be checked (`<data value>`).
"""

from jobs.report.write import write_report

__all__ = ["write_report"]
