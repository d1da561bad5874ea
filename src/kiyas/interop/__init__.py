"""Other people's logs and results → a run folder that `analyse` and `report` read like one of ours.

Nothing is invented: what a file does not say stays absent, what is odd is listed in `notes` of resolved.json and in
the report. Recorded verdicts are marked as such; they were not found by our judge.
"""

from kiyas.interop.importing import import_study
from kiyas.interop.summary import ImportSummary

__all__ = ["ImportSummary", "import_study"]
