"""The checklist: what deserves a word, and that a tick is never given without evidence."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kiyas.analyse import Findings, Level, Remark, analyse
from kiyas.analyse.provenance import shared_remark
from kiyas.interop.importing import import_study
from kiyas.report import sentences
from kiyas.report.language import Language, languages
from kiyas.runfolder.files import read_json, read_jsonl, write_json, write_jsonl
from kiyas.similarity.shared_rows import shared_rows
from kiyas.types import Example
from synthetic import STEPS, make_run

Row = dict[str, Any]
LAST = STEPS[-1]
P = 12
small = functools.partial(make_run, problems=P, steps=(20, LAST), seeds=(0,))


def remarks(run: Path) -> dict[str, Remark]:
    """By code; every one of them has words in all languages, without holes."""
    findings: Findings = analyse(run)
    for language in languages():
        for each in findings.remarks:
            assert "{" not in sentences.remark(each, Language(language), findings), each.code
    return {each.code: each for each in findings.remarks}


def ticks(run: Path) -> set[str]:
    return {code for code, each in remarks(run).items() if each.level is Level.OK}


def edit(run: Path, **changes: Any) -> Path:
    write_json(run / "resolved.json", {**read_json(run / "resolved.json"), **changes})
    return run


def same_as(source: tuple[str, int, int], copy: tuple[str, int, int]) -> Any:
    """Gives one checkpoint (arm, seed, step) the programs and verdicts of another."""
    kept: dict[str, Row] = {}

    def change(row: Row) -> Row:
        who = (row["arm"], row["seed"], row["step"])
        if who == source:
            kept[row["problem_id"]] = row
        if who != copy:
            return row
        own = {key: row[key] for key in ("arm", "variant", "seed", "step")}
        return {**kept[row["problem_id"]], **own}

    return change


# -- the same weights, judged twice -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("copy", "level"),
    [(("diverse", 0, 20), Level.WARNING), (("deep", 1, 20), Level.WARNING), (("deep", 0, LAST), Level.NOTE)],
)
def test_the_same_programs_twice(tmp_path: Path, copy: tuple[str, int, int], level: Level) -> None:
    run = small(tmp_path / "run", seeds=(0, 1), steps=(20, LAST), change=same_as(("deep", 0, 20), copy))
    found = remarks(run)["same_programs"]
    arm, seed, step = copy
    assert found.level is level and found.values["n"] == P
    assert found.values["where"] == f"deep/seed-0/step-000020 = {arm}/seed-{seed}/step-{step:06d}"


def test_whole_answers_count_where_they_are_known(tmp_path: Path) -> None:
    """The same programs in other words are not the same answers."""
    run = small(tmp_path / "run", steps=(20, LAST), change=same_as(("deep", 0, 20), ("diverse", 0, 20)))
    judged = read_jsonl(run / "judge" / "judgments.jsonl")

    def answers(of: Mapping[str, str]) -> list[Row]:
        keys = ("arm", "variant", "seed", "step", "problem_id", "sample", "program")
        return [{**{key: row[key] for key in keys}, "text": of.get(row["arm"], "") + row["program"]} for row in judged]

    write_jsonl(run / "generate" / "completions.jsonl", answers({}))
    assert remarks(run)["same_answers"].level is Level.WARNING
    write_jsonl(run / "generate" / "completions.jsonl", answers({"diverse": "Here it is: "}))
    assert not {"same_answers", "same_programs"} & remarks(run).keys()


def test_one_other_answer_is_enough(tmp_path: Path) -> None:
    copied = same_as(("deep", 0, 20), ("diverse", 0, 20))

    def change(row: Row) -> Row:
        changed: Row = copied(row)
        one = (row["arm"], row["step"], row["problem_id"]) == ("diverse", 20, "p011")
        return {**changed, "program": "pass"} if one else changed

    assert "same_programs" not in remarks(small(tmp_path / "run", steps=(20, LAST), change=change))


@pytest.mark.parametrize("missing", [0, 5, 9])
def test_missing_verdicts_do_not_hide_it(tmp_path: Path, missing: int) -> None:
    """Where most answers are not known of one of the two, too little is compared."""
    copied = same_as(("deep", 0, 20), ("diverse", 0, 20))

    def change(row: Row) -> Row | None:
        gone = (row["arm"], row["step"]) == ("diverse", 20) and int(row["problem_id"][1:]) < missing
        changed: Row = copied(row)
        return None if gone else changed

    found = remarks(small(tmp_path / "run", steps=(20, LAST), change=change))
    assert ("same_programs" in found) == (missing <= P / 2)
    if missing <= P / 2:
        assert found["same_programs"].values["n"] == P - missing


def test_no_program_is_not_the_same_program(tmp_path: Path) -> None:
    for n, program in enumerate(("", None)):
        none = lambda row, program=program: {**row, "program": program}  # noqa: E731
        run = small(tmp_path / str(n), steps=(20, LAST), change=none)
        assert not {"same_answers", "same_programs", "adapters_differ"} & remarks(run).keys()


def test_what_is_like_the_base_is_said_once(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=(20, LAST), program="print({problem})")
    assert "adapter_like_base" in remarks(run) and "same_programs" not in remarks(run)


def test_a_real_study_with_a_checkpoint_judged_twice(tmp_path: Path, shared_data: Path) -> None:
    shutil.copytree(shared_data / "study-a", tmp_path / "theirs")
    outcomes = tmp_path / "theirs" / "outcomes"
    outcomes.chmod(0o755)
    name = "deep_instruction_checkpoint-step-{}-epoch-{}_2408-2502_atcoder.jsonl"
    shutil.copy(outcomes / name.format(200, 1), outcomes / name.format(400, 2))
    import_study([tmp_path / "theirs"], tmp_path / "run")
    found = remarks(tmp_path / "run")
    assert found["same_answers"].values["where"] == "deep/seed-0/step-000200 = deep/seed-0/step-000400"
    assert "judged_beyond_log" in found and "equal_steps" not in found


# -- numbers of steps ---------------------------------------------------------------------------------------------


def cut_log(run: Path, arm: str, last: int, every: int = 10) -> Path:
    """An arm's log up to a step, with a row each so many steps."""
    rows = read_jsonl(run / "train" / "log.jsonl")
    kept = [row for row in rows if row["arm"] != arm or (row["step"] <= last and row["step"] % every == 0)]
    write_jsonl(run / "train" / "log.jsonl", kept)
    return run


def test_equal_steps_are_ticked_where_all_logs_reach_the_end(tmp_path: Path) -> None:
    assert remarks(small(tmp_path / "run"))["equal_steps"].values == {"steps": "deep 120, diverse 120"}


def test_a_checkpoint_beyond_its_log(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    for arm in ("deep", "diverse"):
        cut_log(run, arm, 100)
    found = remarks(run)
    assert found["judged_beyond_log"].values["where"] == "deep/seed-0: 120 > 100; diverse/seed-0: 120 > 100"
    assert "equal_steps" not in found and found["steps_unknown"].level is Level.NOTE


def test_a_log_may_end_before_its_next_row_is_due(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=(60, 117))
    for arm in ("deep", "diverse"):
        cut_log(run, arm, 110)
    assert "judged_beyond_log" not in remarks(run) and "equal_steps" in remarks(run)


def test_steps_of_a_coarse_log_are_not_called_unequal(tmp_path: Path) -> None:
    """Logged each 40 steps up to 80, and judged there: the training may well have gone on to 110."""
    run = small(tmp_path / "run", steps=(40, 80))
    cut_log(cut_log(run, "deep", 80, 40), "diverse", 110)
    found = remarks(run)
    assert found["steps_unknown"].values["arms"] == "deep" and not {"equal_steps", "unequal_steps"} & found.keys()
    fine = cut_log(cut_log(small(tmp_path / "fine", steps=(40, 80)), "deep", 80), "diverse", 110)
    assert "unequal_steps" in remarks(fine)


def test_without_a_log_nothing_is_known_of_the_steps(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    (run / "train" / "log.jsonl").unlink()
    assert {"no_log", "steps_unknown"} <= remarks(run).keys() and "equal_steps" not in remarks(run)


def test_one_seed_that_ended_early_is_not_averaged_away(tmp_path: Path) -> None:
    run = small(
        tmp_path / "run",
        seeds=(0, 1),
        change=lambda r: None if (r["arm"], r["seed"]) == ("deep", 1) and r["step"] > 60 else r,
    )
    rows = read_jsonl(run / "train" / "log.jsonl")
    write_jsonl(
        run / "train" / "log.jsonl",
        [row for row in rows if (row["arm"], row["seed"]) != ("deep", 1) or row["step"] <= 60],
    )
    assert remarks(run)["unequal_steps"].values == {"steps": "deep 60–120, diverse 120"}


# -- training rows that arms share --------------------------------------------------------------------------------


def rows_of(arm: str, numbers: range, completion: str = "") -> list[Example]:
    return [
        Example(f"{arm}{n}", f"Write program {n}.", f"print({n}){completion}", f"g{n}") for n in numbers
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("b", "code", "level"),
    [
        (rows_of("b", range(100)), "same_data", Level.WARNING),
        (rows_of("b", range(100)) * 2, "same_data", Level.WARNING),
        (rows_of("b", range(2, 102)), "nearly_same_data", Level.WARNING),
        (rows_of("b", range(50, 150)), "shared_rows", Level.NOTE),
        (rows_of("b", range(5)), "shared_rows", Level.NOTE),
        (rows_of("b", range(95, 195)), "shared_rows", Level.OK),
        (rows_of("b", range(100), "  # another"), "no_shared_rows", Level.OK),
        (rows_of("b", range(200, 300)), "no_shared_rows", Level.OK),
    ],
)
def test_shared_rows(tmp_path: Path, b: list[Example], code: str, level: Level) -> None:
    """The same measure in a run folder and in `kiyas check`."""
    arms = {"deep": rows_of("a", range(100)), "diverse": b}
    (measured,) = shared_rows(arms)
    found = shared_remark(measured)
    assert (found.code, found.level) == (code, level)
    run = small(tmp_path / "run", steps=(LAST,))
    for arm, rows in arms.items():
        write_jsonl(run / "data" / f"{arm}.jsonl", [row.to_row() for row in rows])
    assert remarks(run)[code] == found


def test_how_many_rows_are_shared() -> None:
    a, b = rows_of("a", range(10)), [*rows_of("b", range(8, 28)), *rows_of("b", range(4), "  # another")]
    held_out = [Example("v", "Write program 5.", "print(5)", "g5", "validation"), Example("d", "x", "y", "g", draw=1)]
    (found,) = shared_rows({"a": a, "b": [*b, *held_out], "nothing": []})
    assert (found.a_rows, found.b_rows, found.a_shared, found.b_shared) == (10, 24, 2, 2)
    assert (found.a_prompts, found.b_prompts) == (6, 6)
    spaced = [Example("1", "Write  program 1.\n", " print(1)", "g")]
    assert shared_rows({"a": a, "b": spaced})[0].b_shared == 1


def test_data_that_are_not_in_the_run_folder(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=(LAST,))
    write_jsonl(run / "data" / "deep.jsonl", [row.to_row() for row in rows_of("a", range(3))])
    assert remarks(run)["sharing_unknown"].values == {"arms": "diverse"}


# -- a tick only for evidence ---------------------------------------------------------------------------------------

ABOUT_TRAINING = {"declared_before", "selection_clean", "equal_steps", "no_shared_rows", "not_contaminated",
                  "newer_problems", "rate_tuned", "judge_tier"}  # fmt: skip


def test_an_import_is_ticked_for_its_verdicts_only(tmp_path: Path) -> None:
    recorded = lambda row: {**row, "recorded": True}  # noqa: E731
    run = small(tmp_path / "run", seeds=(0, 1, 2), imported=True, change=recorded)
    (run / "train" / "log.jsonl").unlink()
    assert ticks(run) == {"base_measured", "nothing_missing", "tests", "seeds", "adapters_differ"}
    assert {"import_unknown", "steps_unknown", "recorded_verdicts"} <= remarks(run).keys()


@pytest.mark.parametrize("study", [True, False])
def test_an_edited_record_earns_no_tick(tmp_path: Path, study: bool) -> None:
    run = small(tmp_path / "run")
    known = {"no_shared_rows", "not_contaminated", "newer_problems", "rate_tuned"}  # no data, dates or grid here
    assert ticks(run) >= ABOUT_TRAINING - known
    edit(run, **({"declared_sha256": None, "judge": None} if study else {"study": None, "judge": None}))
    assert not ticks(run) & (ABOUT_TRAINING - {"equal_steps"})
    assert ("declaration_unknown" if study else "import_unknown") in remarks(run)
    assert "isolation_unknown" in remarks(run)


def test_the_verdicts_own_tier_comes_before_the_record(tmp_path: Path) -> None:
    weak = small(tmp_path / "weak", change=lambda row: {**row, "tier": "weak"})
    assert "weak_isolation" in remarks(weak) and "judge_tier" not in ticks(weak)
    some = small(tmp_path / "some", change=lambda row: {**row, "tier": "strong" if row["arm"] == "deep" else ""})
    assert "isolation_unknown" in remarks(some) and "judge_tier" not in ticks(some)


def test_a_changed_rule_is_not_clean(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    edit(run, declared_sha256="0" * 64)
    assert "declaration_changed" in remarks(run) and "selection_clean" not in remarks(run)


def test_a_single_checkpoint_from_elsewhere_may_have_been_the_best(tmp_path: Path) -> None:
    imported = small(tmp_path / "import", imported=True, steps=(LAST,))
    assert remarks(imported)["choice_unknown"].values == {"arms": "deep, diverse"}
    assert "choice_unknown" not in remarks(small(tmp_path / "run", steps=(LAST,)))


def test_validation_loss_at_some_checkpoints_only(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=(20, 35, 40), compare={"select": "validation"})
    assert remarks(run)["validation_at_some"].values["n"] == 2 and "selection_clean" not in remarks(run)


def test_a_base_of_which_verdicts_are_missing_was_not_measured(tmp_path: Path) -> None:
    few = lambda row: None if (row["arm"], row["problem_id"]) == ("base", "p003") else row  # noqa: E731
    found = remarks(small(tmp_path / "run", change=few))
    assert found["base_incomplete"].values == {"n": 1} and "base_measured" not in found


def test_missing_on_a_secondary_benchmark_or_in_a_whole_arm(tmp_path: Path) -> None:
    run = small(tmp_path / "run", steps=(LAST,), also=["humaneval"])
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [*problems[1:], {**problems[0], "benchmark": "humaneval"}])
    assert "nothing_missing" in ticks(run)
    judged = read_jsonl(run / "judge" / "judgments.jsonl")
    gone = [row for row in judged if (row["problem_id"], row["arm"], row["seed"]) != ("p000", "deep", 0)]
    write_jsonl(
        run / "judge" / "judgments.jsonl",
        [*gone, {**judged[1], "seed": 0, "problem_id": "p000", "verdict": "IE", "arm": "deep", "step": LAST}],
    )
    assert remarks(run)["owed_beside"].values == {"n": 1, "benchmark": "humaneval"}
    assert "nothing_missing" not in ticks(run)
    arm = small(tmp_path / "arm", change=lambda row: None if row["arm"] == "diverse" else row)
    assert remarks(arm)["arms_not_judged"].values == {"arms": "diverse"} and "nothing_missing" not in ticks(arm)


@pytest.mark.parametrize(("total", "ticked"), [(4, True), (2, False), (None, False)])
def test_imported_verdicts_must_be_about_the_tests(tmp_path: Path, total: int | None, ticked: bool) -> None:
    recorded = lambda row: {**row, "recorded": True, "total": total}  # noqa: E731
    run = small(tmp_path / "run", imported=True, change=recorded)
    assert ("tests" in ticks(run), "tests_not_confirmed" in remarks(run)) == (ticked, not ticked)


def test_without_statements_tests_may_be_the_samples(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [{**row, "statement": ""} for row in problems])
    assert "tests_maybe_samples" in remarks(run) and "tests" not in ticks(run)


def test_seeds_count_where_all_arms_have_them(tmp_path: Path) -> None:
    assert remarks(small(tmp_path / "run", seeds=(0, 1, 2)))["seeds"].values == {"seeds": 3}
    others = small(
        tmp_path / "others",
        seeds=(0, 1, 2),
        imported=True,
        change=lambda r: {**r, "seed": r["seed"] + 5 * (r["arm"] == "diverse")},
    )
    found = remarks(others)
    assert "seeds" not in found and found["unequal_seeds"].values["n"] == 0
    assert found["unequal_seeds"].values["seeds"] == "deep: 0, 1, 2; diverse: 5, 6, 7"


def test_dates_and_contamination_of_arms_that_were_trained_elsewhere(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(run / "data" / "problems.jsonl", [{**row, "date": "2025-01-01"} for row in problems])
    record = read_json(run / "resolved.json")
    record["study"]["arms"] = {arm: {"checkpoints": arm} for arm in ("deep", "diverse")}
    write_json(run / "resolved.json", record)
    write_json(run / "data" / "contamination.json", [])
    found = remarks(run)
    assert found["newest_unknown"].values == {"arms": "deep, diverse"} == found["contamination_unknown"].values
    assert not ticks(run) & {"newer_problems", "not_contaminated"}


def test_problems_without_a_date_are_not_newer(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    problems = read_jsonl(run / "data" / "problems.jsonl")
    write_jsonl(
        run / "data" / "problems.jsonl", [{**row, "date": "2025-01-01" * (n > 0)} for n, row in enumerate(problems)]
    )
    record = read_json(run / "resolved.json")
    record["study"]["arms"] = {arm: {"dataset_name": arm, "newest": "2024-06"} for arm in ("deep", "diverse")}
    write_json(run / "resolved.json", record)
    assert remarks(run)["undated_problems"].values == {"n": 1, "of": P} and "newer_problems" not in ticks(run)


def test_programs_must_be_known_to_differ_from_the_base(tmp_path: Path) -> None:
    run = small(tmp_path / "run", change=lambda r: {**r, "program": None} if r["step"] == LAST else r)
    assert remarks(run)["adapters_unknown"].values["n"] == 2 and "adapters_differ" not in ticks(run)
