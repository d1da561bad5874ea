"""Remarks on where data and answers come from: what arms share, what was judged twice, and what nobody recorded.

A tick (level OK) is given for evidence in the run folder only. Where there is none, a note says what is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kiyas.analyse.findings import Level, Remark
from kiyas.analyse.load import Loaded
from kiyas.runfolder import rows
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.similarity.shared_rows import SharedRows
from kiyas.study.settings import day_of
from kiyas.types import BASE, AdapterId

MANY_SHARED = 0.1
"""Share of an arm's rows that another arm has too: from here on it deserves a note."""
NEARLY_ALL = 0.95
MOST_GROUPS, MOST_EQUAL = 5, 4
"""Groups of checkpoints with the same answers that a remark names."""

Written = Mapping[tuple[str, int], int]
"""(problem, sample) → a hash of what was written"""


def accepted_changes(loaded: Loaded) -> list[Remark]:
    """What was changed by hand and accepted; and whether such a change would be noticed at all."""
    record = loaded.record
    found = [
        Remark("accepted_change", Level.WARNING, {"file": each.file, "when": each.when, "reason": each.reason})
        for each in record.accepted
    ]
    folder = RunDir(loaded.run)
    older = record.format == 1 and any(folder.manifest_path(stage).exists() for stage in Stage)
    return [*found, Remark("no_digests", Level.NOTE)] if older else found


def unknown(loaded: Loaded) -> list[Remark]:
    """What nobody recorded of an import, or of arms that were trained elsewhere."""
    if loaded.record.study is None:
        return [Remark("import_unknown", Level.NOTE)] if loaded.arms else []
    given = [name for name, arm in loaded.record.arms.items() if arm.is_given]
    return [Remark("recipe_unknown", Level.WARNING, {"arms": ", ".join(given)})] if given and _several(loaded) else []


def _several(loaded: Loaded) -> bool:
    return len(loaded.record.arms) > 1


def shared_data(loaded: Loaded) -> list[Remark]:
    """The training rows that arms share."""
    folder, silent = RunDir(loaded.run), []
    if _several(loaded):
        arms = [arm for arm, of in loaded.record.arms.items() if not of.is_given]
        silent = [arm for arm in arms if next(rows.examples(folder, arm), None) is None]
    found = [shared_remark(each) for each in loaded.shared_rows]
    return [*found, *([Remark("sharing_unknown", Level.NOTE, {"arms": ", ".join(silent)})] if silent else [])]


def shared_remark(found: SharedRows) -> Remark:
    """What sharing means for a comparison of the two arms."""
    values: dict[str, Any] = {
        "a": found.a,
        "b": found.b,
        "shared": found.a_shared,
        "a_share": found.a_shared / found.a_rows,
        "b_share": found.b_shared / found.b_rows,
        "a_prompts_share": found.a_prompts / found.a_rows,
        "b_prompts_share": found.b_prompts / found.b_rows,
    }
    if found.least == 1:
        return Remark("same_data", Level.WARNING, values)
    if found.least >= NEARLY_ALL:
        return Remark("nearly_same_data", Level.WARNING, values)
    level = Level.NOTE if found.most >= MANY_SHARED else Level.OK
    return Remark("shared_rows" if found.a_shared else "no_shared_rows", level, values)


def contamination(loaded: Loaded) -> list[Remark]:
    """Benchmark problems in the training data, and the arms whose data nobody searched."""
    code = "contaminated" if len(loaded.contaminated) < len(loaded.problems) else "contaminated_whole"
    found = [
        Remark(
            code,
            Level.WARNING,
            {"arm": arm, "n": len(ids), "some": ", ".join(ids[:5]) + " …" * (len(ids) > 5)},
        )
        for arm, ids in (loaded.flagged or {}).items()
    ]
    if loaded.record.study is None:
        return found  # `unknown` says it
    # What a derived arm has was searched with its sources.
    silent = [name for name, arm in loaded.record.arms.items() if not arm.sources and name not in loaded.searched]
    if silent:
        return [*found, Remark("contamination_unknown", Level.NOTE, {"arms": ", ".join(silent)})]
    return found or [Remark("not_contaminated", Level.OK, {"problems": len(loaded.problems)})]


def newer(loaded: Loaded) -> list[Remark]:
    """Are the problems newer than what the data was made from? Asked only where problems have dates."""
    dates = [problem.date[:10] for problem in loaded.problems.values() if problem.date]
    if not dates or loaded.record.study is None:
        return []
    said = {name: arm.newest for name, arm in loaded.record.arms.items() if not arm.sources}
    found = []
    if silent := [name for name, newest in said.items() if newest is None]:
        found.append(Remark("newest_unknown", Level.NOTE, {"arms": ", ".join(silent)}))
    if undated := len(loaded.problems) - len(dates):
        found.append(Remark("undated_problems", Level.NOTE, {"n": undated, "of": len(loaded.problems)}))
    for name, newest in said.items():
        last = day_of(newest, True) if newest is not None else None
        older = sum(day <= str(last) for day in dates) if last is not None else 0
        if older:
            values = {"arm": name, "n": older, "of": len(dates), "newest": str(newest)}
            found.append(Remark("older_problems", Level.WARNING, values))
    return found or [Remark("newer_problems", Level.OK, {"n": len(dates)})]


def same_answers(loaded: Loaded, like_base: set[AdapterId]) -> list[Remark]:
    """Checkpoints that wrote the same, byte for byte: the same weights, judged twice?

    Whole answers are compared where the run folder has them, else programs. `like_base`: the checkpoints of which
    another remark says that they write what the base does.
    """
    texts, programs = loaded.texts, {adapter: _programs(loaded, adapter) for adapter in loaded.answers}
    groups: dict[tuple[str, Level], list[tuple[list[AdapterId], int]]] = {}
    for group, n, whole in _groups(texts, programs):
        if like_base.issuperset(set(group) - {BASE}):
            continue
        level = Level.NOTE if len({adapter.training for adapter in group}) == 1 else Level.WARNING
        groups.setdefault(("same_answers" if whole else "same_programs", level), []).append((group, n))
    return [
        Remark(code, level, {"where": _listed([group for group, _ in found]), "n": min(n for _, n in found)})
        for (code, level), found in groups.items()
    ]


def _programs(loaded: Loaded, adapter: AdapterId) -> dict[tuple[str, int], int]:
    return {
        (problem, each.sample): hash(each.program)
        for part in (loaded, *loaded.secondary.values())
        for problem, judged in part.answers.get(adapter, {}).items()
        for each in judged
        if each.program and each.program.strip()
    }


def _groups(
    texts: Mapping[AdapterId, Written], programs: Mapping[AdapterId, Written]
) -> Iterator[tuple[list[AdapterId], int, bool]]:
    """Checkpoints of equal answers; to how many problems; and whether whole answers were compared."""
    left = list(programs)
    while left:
        first, *left = left
        equal = {other: same for other in left if (same := _equal(first, other, texts, programs))}
        if equal:
            left = [other for other in left if other not in equal]
            n, whole = min(equal.values())
            yield [first, *equal], n, whole


def _equal(
    a: AdapterId, b: AdapterId, texts: Mapping[AdapterId, Written], programs: Mapping[AdapterId, Written]
) -> tuple[int, bool] | None:
    whole = a in texts and b in texts
    of_a, of_b = (texts[a], texts[b]) if whole else (programs[a], programs[b])
    common = []
    for key, written in of_a.items():
        if key in of_b:
            if of_b[key] != written:
                return None
            common.append(key)
    # Where most answers of one are not known of the other, too little is compared.
    if not common or 2 * len(common) < max(len(of_a), len(of_b)):
        return None
    return len({problem for problem, _ in common}), whole


def _listed(groups: list[list[AdapterId]]) -> str:
    more = f"; … +{len(groups) - MOST_GROUPS}" if len(groups) > MOST_GROUPS else ""
    shown = [
        " = ".join(
            [*map(str, group[:MOST_EQUAL]), *([f"… +{len(group) - MOST_EQUAL}"] if len(group) > MOST_EQUAL else [])]
        )
        for group in groups[:MOST_GROUPS]
    ]
    return "; ".join(shown) + more
