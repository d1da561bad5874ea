"""Other people's logs and results → a run folder that `analyse` and `report` read like one of ours.

Nothing is invented: what a file does not say stays absent, what is unusual is listed in `notes` of resolved.json and in
the report. Recorded verdicts are marked as such; they do not come from our judge.
"""

from kiyas.interop.importing import import_study
from kiyas.interop.summary import ImportSummary

__all__ = ["ImportSummary", "import_study"]
