"""`resolved.json` and the rows as typed nouns: what is written is read, what is odd is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kiyas.judge import Outcome, TestResult
from kiyas.judge.types import ExceptionInfo
from kiyas.runfolder import rows
from kiyas.runfolder.files import digest, read_json, unsealed, write_jsonl, write_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.record import Kind, Record, declared, read_record, write_record
from kiyas.study.settings import Compare, Select, Study
from kiyas.types import AdapterId, Judgment, KiyasError

STUDY = Study.model_validate(
    {"name": "x", "model_name_or_path": "practice", "arms": {"a": {"dataset_name": "practice/deep", "newest": "2024"}}}
)


def folder(path: Path, **changes: Any) -> RunDir:
    made = RunDir(path)
    write_record(made, Record(kind=Kind.RUN, name="x", study=STUDY, declared_sha256=declared(STUDY)))
    write_sealed(made.resolved, unsealed(made.resolved) | changes)
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = folder(tmp_path)
    record = read_record(made)
    assert record.study == STUDY and record.kind is Kind.RUN and record.declared_before is True
    again = read_json(made.resolved)
    write_record(made, record)
    assert read_json(made.resolved) == again


def test_keys_of_a_later_version_are_kept(tmp_path: Path) -> None:
    made = folder(tmp_path, weather="fine")
    write_record(made, read_record(made).model_copy(update={"notes": ("odd",)}))
    assert read_json(made.resolved)["weather"] == "fine" and read_json(made.resolved)["notes"] == ["odd"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "copy"}, "kind: Input should be 'run' or 'import'"),
        ({"name": None}, "name: "),
        ({"base": {"parameters": 3}}, r"base\.name_or_path: Field required"),
        ({"judge": {"tier": "titanium", "mode": "strict"}}, r"judge\.tier: "),
        ({"study": {"name": "x"}}, r"study\.model_name_or_path: Field required; study\.arms: "),
    ],
)
def test_a_record_that_cannot_be_read_names_the_key(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(KiyasError, match=named) as error:
        read_record(folder(tmp_path, **changes))
    assert str(tmp_path / "resolved.json") in str(error.value) and "Restore it" in error.value.hint


def test_no_record_and_a_torn_one(tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="is not a run folder"):
        read_record(RunDir(tmp_path))
    (tmp_path / "resolved.json").write_text('{"kind": "run"')
    with pytest.raises(KiyasError, match="not valid JSON"):
        read_record(RunDir(tmp_path))


def test_a_declaration_is_compared_as_it_was_written(tmp_path: Path) -> None:
    changed = STUDY.model_copy(update={"compare": Compare(matters=0.2)}).model_dump(mode="json")
    assert read_record(folder(tmp_path, study=changed)).declared_before is False
    # A key that this version knows and the one that stamped did not is not a change.
    older = STUDY.model_dump(mode="json")
    del older["compare"]["accept"], older["compare"]["metric"]
    assert read_record(folder(tmp_path, study=older, declared_sha256=digest(older["compare"]))).declared_before is True
    assert read_record(folder(tmp_path, declared_sha256=None)).declared_before is None


def test_a_key_of_a_later_version_is_not_a_change_in_a_record_that_is_written_again(tmp_path: Path) -> None:
    older = STUDY.model_dump(mode="json")
    del older["compare"]["metric"]
    made = folder(tmp_path, study=older, declared_sha256=digest(older["compare"]))
    write_record(made, read_record(made).model_copy(update={"notes": ("odd",)}))
    assert read_json(made.resolved)["study"]["compare"]["metric"] == "pass@1"
    assert read_record(made).declared_before is True
    sampled = STUDY.model_dump(mode="json") | {"generation": {"num_samples": 8, "temperature": 1.0}}
    sampled["compare"]["metric"] = "pass@4"
    changed = folder(tmp_path, study=sampled, declared_sha256=digest(older["compare"]))
    assert read_record(changed).declared_before is False
    assert declared(Study.model_validate(sampled)) != declared(STUDY)


def test_an_import_declares_nothing(tmp_path: Path) -> None:
    record = read_record(folder(tmp_path, kind="import", study=None, declared_sha256=None))
    assert record.arms == {} and record.declared_before is None
    assert record.compare == Compare() and record.compare.select is Select.LAST


@pytest.mark.parametrize(
    "result",
    [
        TestResult(Outcome.AC, 0.25, 0.5, 12.5, 0, None),
        TestResult(
            Outcome.RE,
            0.25,
            0.5,
            12.5,
            1,
            None,
            "4",
            "Traceback",
            ExceptionInfo("ValueError", 3, "no"),
            "line 3",
            ("f",),
        ),
        TestResult(Outcome.TLE, signal="SIGKILL", detail="slow"),
    ],
)
def test_a_test_result_and_its_row_are_inverse(result: TestResult) -> None:
    assert TestResult.of(result.to_row()) == result


def test_rows_of_judgments(tmp_path: Path) -> None:
    made, who = RunDir(tmp_path), {"arm": "a", "variant": "", "seed": 0, "step": 20, "problem_id": "p", "sample": 1}
    assert rows.judgments(made) == []
    write_jsonl(made.judgments, [{**who, "program": "x", "verdict": "WA", "passed": 1, "total": 2}])
    (read,) = rows.judgments(made)
    assert read == Judgment(AdapterId("a", "", 0, 20), "p", 1, "x", Outcome.WA, 1, 2)
    assert read.partly and read.share == 0.5 and not read.solved and not read.missing
    for wrong in ({"verdict": "MAYBE"}, {"sample": "first"}, {"arm": None, "verdict": "AC", "problem_id": "p"}):
        broken = {key: value for key, value in {**who, "verdict": "AC", **wrong}.items() if value is not None}
        write_jsonl(made.judgments, [{**who, "verdict": "AC"}, broken])
        with pytest.raises(KiyasError, match=r"judgments\.jsonl, row 2: "):
            rows.judgments(made)
