"""The numerical floor: what rounding alone does to verdicts, in the sentence beside the A/A control."""

from __future__ import annotations

from kiyas.analyse.findings import Findings
from kiyas.report.language import Language


def numerical_floor(findings: Findings, words: Language) -> list[str]:
    """Nothing where no answer was decoded again."""
    found = findings.numerical_floor
    if found is None:
        return []
    lost, gained = sum(each.lost for each in found.arms), sum(each.gained for each in found.arms)
    flips = lost + gained
    said = words(
        "numerical_floor.sentence" if flips else "numerical_floor.none",
        n=sum(each.answers for each in found.arms),
        texts=sum(each.texts for each in found.arms),
        flips=flips,
        lost=lost,
        gained=gained,
        rate=words.percent(found.rate),
        interval=words.share_interval(found.interval),
    )
    if found.moved is not None and found.moved_most is not None:
        moved, most = (words.points(value, signed=False) for value in (found.moved, found.moved_most))
        said += " " + words("numerical_floor.moved" if flips else "numerical_floor.at_most", moved=moved, most=most)
    return [said]
