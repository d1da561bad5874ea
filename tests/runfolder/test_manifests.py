"""Digests of what stages made: what is changed is noticed, named with its stage, and accepted only on purpose."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from kiyas import cli
from kiyas.analyse import analyse
from kiyas.runfolder import files, manifests
from kiyas.runfolder.files import (
    ChangedError,
    JsonlWriter,
    read_jsonl,
    read_sealed,
    seal_of,
    seal_older,
    settle,
    unsealed,
    write_json,
    write_jsonl,
    write_sealed,
)
from kiyas.runfolder.manifests import READS, accept, damages, finish, refuse, restore
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import FORMAT, Kind, new_id, parse, read_record, write_record
from kiyas.types import KiyasError
from synthetic import make_run


@pytest.fixture
def finished(tmp_path: Path) -> RunDir:
    folder = RunDir(make_run(tmp_path / "run", problems=12, seeds=(0, 1)))
    record = read_record(folder).model_copy(update={"format": FORMAT, "run_id": new_id()})
    write_record(folder, record)
    for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE):
        folder.stage(stage).mkdir(exist_ok=True)
        finish(folder, stage, {}, {}, 1.0)
    return folder


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text and len(old) == len(new)
    path.write_text(text.replace(old, new, 1))


def test_an_edited_verdict_is_refused_and_accepted_on_purpose(
    finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(finished.judgments, '"verdict": "WA"', '"verdict": "AC"')
    with pytest.raises(KiyasError, match=r"judge/judgments.jsonl was changed or damaged\n.*--redo judge"):
        analyse(finished.root)
    assert cli.main(["verify", str(finished.root)]) == 1
    assert "not as written: 1 of" in capsys.readouterr().out
    assert (
        cli.main(["verify", str(finished.root), "--accept", str(finished.judgments), "--reason", "a wrong test"]) == 0
    )
    remarks = {each.code: each for each in analyse(finished.root).remarks}
    assert remarks["accepted_change"].values["reason"] == "a wrong test"
    assert remarks["accepted_change"].values["file"] == "judge/judgments.jsonl"
    assert cli.main(["report", str(finished.root), "--text"]) == 0
    assert "a wrong test" in capsys.readouterr().out
    with pytest.raises(KiyasError, match="there is no change that could be accepted"):
        accept(finished, "judge/judgments.jsonl", "again")


def test_accepting_wants_a_file_and_a_reason(finished: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--accept", "data/problems.jsonl"], ["--reason", "x"], ["--accept", "x", "--reason", " "]):
        assert cli.main(["verify", str(finished.root), *more]) == 1
        assert "belong together" in capsys.readouterr().err


def test_a_finished_stage_needs_no_seal(finished: RunDir) -> None:
    shutil.rmtree(finished.stage(Stage.JUDGE))
    with JsonlWriter(finished.judgments) as writer:
        writer.write({"n": 1})
    (finished.stage(Stage.JUDGE) / "state").mkdir()
    finish(finished, Stage.JUDGE, {}, {}, 1.0)
    assert {path.name for path in finished.stage(Stage.JUDGE).iterdir()} == {"judgments.jsonl", "manifest.json"}


def test_unfinished_verdicts_without_their_seal_are_refused(finished: RunDir) -> None:
    finished.manifest_path(Stage.JUDGE).unlink()
    with pytest.raises(
        KiyasError, match=r"judgments.jsonl was changed, cut or damaged while the stage is not finished"
    ):
        refuse(finished, READS[Stage.ANALYSE])
    accept(finished, "judge/judgments.jsonl", "from a copy")
    refuse(finished, READS[Stage.ANALYSE])


@pytest.mark.parametrize("what", ["pipe", "folder", "link"])
def test_what_is_not_a_file_is_not_accepted(finished: RunDir, what: str) -> None:
    finished.judgments.unlink()
    if what == "pipe":
        os.mkfifo(finished.judgments)
    elif what == "folder":
        finished.judgments.mkdir()
    else:
        finished.judgments.symlink_to("/dev/zero")
    with pytest.raises(KiyasError, match=r"cannot read .*judgments.jsonl: it is a"):
        accept(finished, "judge/judgments.jsonl", "x")


@pytest.mark.parametrize(
    "name", ["manifest.json", "odd/manifest.json", "judge/odd/manifest.json", "data/manifest.json"]
)
def test_what_is_not_a_manifest_is_not_accepted(finished: RunDir, name: str) -> None:
    (finished.root / name).parent.mkdir(parents=True, exist_ok=True)
    (finished.root / name).write_text("[]")
    with pytest.raises(KiyasError, match=r"there is no change|is not the manifest of a stage"):
        accept(finished, name, "x")


@pytest.mark.parametrize("name", ["analyse/findings.json", "analyse/manifest.json", "report/tables/results.csv"])
def test_findings_and_report_are_made_again_not_accepted(finished: RunDir, name: str) -> None:
    with pytest.raises(KiyasError, match="they are made again"):
        accept(finished, name, "x")


def test_an_accepted_change_outlives_the_record(finished: RunDir) -> None:
    edited(finished.judgments, '"verdict": "WA"', '"verdict": "AC"')
    accept(finished, "judge/judgments.jsonl", "a wrong test")
    finished.problems.write_text(finished.problems.read_text() + "\n")
    accept(finished, "data/problems.jsonl", "a blank line")
    finished.resolved.unlink()
    restore(finished)
    assert [each.reason for each in read_record(finished).accepted] == ["a wrong test", "a blank line"]


def test_a_change_is_noted_before_it_is_accepted(finished: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    edited(finished.judgments, '"verdict": "WA"', '"verdict": "AC"')
    monkeypatch.setattr(manifests, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        accept(finished, "judge/judgments.jsonl", "a wrong test")
    assert damages(finished) and read_record(finished).accepted


def test_a_sound_record_is_not_put_back(finished: RunDir) -> None:
    with pytest.raises(KiyasError, match="nothing to restore"):
        restore(finished)


def test_a_record_is_restored_beside_a_damaged_manifest(finished: RunDir) -> None:
    finished.resolved.unlink()
    finished.resolved.mkdir()
    finished.manifest_path(Stage.JUDGE).write_text("{")
    assert restore(finished) is Stage.GENERATE and read_record(finished).run_id


def test_stages_of_two_copies_are_not_one_run(finished: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "other")
    shutil.copytree(finished.root, other.root)
    for folder in (finished, other):
        if folder is other:
            other.problems.write_text(other.problems.read_text() + "\n")
        inputs = {"data/problems.jsonl": files.sha256(folder.problems)}
        finish(folder, Stage.DATA, {}, {}, 1.0)
        finish(folder, Stage.JUDGE, inputs, {}, 1.0)
    refuse(finished, READS[Stage.ANALYSE])
    shutil.rmtree(finished.stage(Stage.JUDGE))
    shutil.copytree(other.stage(Stage.JUDGE), finished.stage(Stage.JUDGE))
    with pytest.raises(KiyasError, match=r"judge/manifest.json says [^\n]* read another [^\n]*\n.*--redo judge"):
        refuse(finished, READS[Stage.ANALYSE])
    accept(finished, "judge/manifest.json", "only a blank line")
    refuse(finished, READS[Stage.ANALYSE])


def test_an_import_that_is_not_whole_is_refused(finished: RunDir) -> None:
    held = read_record(finished).model_copy(update={"kind": Kind.IMPORT, "holds": ("data", "train", "judge")})
    write_record(finished, held)
    refuse(finished, READS[Stage.ANALYSE])
    shutil.rmtree(finished.stage(Stage.JUDGE))
    with pytest.raises(
        KiyasError, match=r"judge/manifest.json is missing, and the import is not whole\n.*import again"
    ):
        refuse(finished, READS[Stage.ANALYSE])


def test_what_cannot_be_removed_is_named(finished: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    monkeypatch.setattr(shutil, "rmtree", unable)
    with pytest.raises(KiyasError, match=r"cannot remove .*/judge: Device or resource busy"):
        finished.drop(Stage.JUDGE)


def test_a_lost_record_is_restored_as_the_last_stage_knew_it(finished: RunDir) -> None:
    before = read_record(finished)
    for damage in ("gone", "cut"):
        text = finished.resolved.read_text()
        finished.resolved.unlink() if damage == "gone" else finished.resolved.write_text(text[:300])
        with pytest.raises(
            KiyasError, match=r"resolved.json (is missing|is not valid JSON)[^\n]*\n.*verify .* --restore"
        ):
            analyse(finished.root)
        assert restore(finished) is Stage.JUDGE
        assert read_record(finished) == before


def test_an_edited_record_is_refused_and_accepted_on_purpose(finished: RunDir) -> None:
    edited(finished.resolved, '"tier": "strong"', '"tier": "weak"  ')
    with pytest.raises(KiyasError, match=r"resolved.json was changed after Kıyas had written it"):
        analyse(finished.root)
    accept(finished, "resolved.json", "the judge ran elsewhere")
    found = analyse(finished.root)
    assert "accepted_change" in {each.code for each in found.remarks} and found.settings["judge"]["tier"] == "weak"


def test_files_of_another_run_are_noticed(finished: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "other")
    shutil.copytree(finished.root, other.root)
    write_record(other, read_record(other).model_copy(update={"run_id": new_id()}))
    for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE):
        finish(other, stage, {}, {}, 1.0)
    shutil.rmtree(finished.stage(Stage.JUDGE))
    shutil.copytree(other.stage(Stage.JUDGE), finished.stage(Stage.JUDGE))
    with pytest.raises(KiyasError, match=r"judge/manifest.json is of another run than resolved.json"):
        refuse(finished, READS[Stage.ANALYSE])


def test_a_moved_or_copied_folder_is_the_same_run(finished: RunDir, tmp_path: Path) -> None:
    before = analyse(finished.root).results
    shutil.copytree(finished.root, tmp_path / "copy", copy_function=shutil.copy)  # other times of modification
    assert damages(RunDir(tmp_path / "copy"), whole=True) == [] and analyse(tmp_path / "copy").results == before


def test_large_files_are_read_where_size_or_time_differ(finished: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LARGE", 1000)
    before = finished.judgments.stat()
    edited(finished.judgments, '"verdict": "WA"', '"verdict": "AC"')
    assert [each.path for each in damages(finished)] == [finished.judgments], "another time"
    os.utime(finished.judgments, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert damages(finished) == []
    assert [each.path for each in damages(finished, whole=True)] == [finished.judgments], "kiyas verify reads it all"


def test_a_checkpoint_that_nobody_trained_is_refused(finished: RunDir) -> None:
    stranger = finished.checkpoints / "deep" / "seed-0" / "step-000400"
    stranger.mkdir(parents=True)
    (stranger / "adapter_config.json").write_text("{}")
    with pytest.raises(KiyasError, match=r"step-000400/adapter_config.json was not made by this run\n.*--redo train"):
        refuse(finished, READS[Stage.GENERATE])


def test_a_later_format_is_refused(finished: RunDir) -> None:
    later = {**unsealed(finished.resolved), "format": FORMAT + 1}
    write_sealed(finished.resolved, later)
    with pytest.raises(
        KiyasError, match=rf"later version of Kıyas \(run folder format {FORMAT + 1}; this one reads {FORMAT}\)"
    ):
        read_record(finished)
    assert parse(finished.resolved, {**later, "format": FORMAT}).format == FORMAT


# -- seals -----------------------------------------------------------------------------------------------------


def grown(path: Path, rows: int) -> Path:
    with JsonlWriter(path) as writer:
        for number in range(rows):
            writer.write({"n": number, "text": "ğ\ud800"})
    return path


@pytest.mark.parametrize("tail", [b'{"n": 5', b'{"n": 5}\n', b"\xff\x00"])
def test_what_a_kill_leaves_is_cut_off_quietly(tmp_path: Path, tail: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = grown(tmp_path / "x.jsonl", 5)
    with path.open("ab") as file:
        file.write(tail)
    assert [row["n"] for row in read_jsonl(path)] == [0, 1, 2, 3, 4], "read before it is settled"
    settle(path)
    assert [row["n"] for row in read_jsonl(path)] == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == "" and not list(tmp_path.glob("*.changed"))


def test_an_edited_row_and_all_after_it_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = grown(tmp_path / "x.jsonl", 5)
    edited(path, '"n": 2', '"n": 7')
    settle(path)
    assert [row["n"] for row in read_jsonl(path)] == [0, 1]
    assert "x.jsonl was changed, cut or damaged" in capsys.readouterr().err
    assert '"n": 7' in (tmp_path / "x.jsonl.changed").read_text(), "nobody's text is lost"


def test_a_kill_while_rows_are_rewritten_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = grown(tmp_path / "x.jsonl", 5)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, [{"n": 9}], sealed=True)
    monkeypatch.undo()
    settle(path)
    assert [row["n"] for row in read_jsonl(path)] == [0, 1, 2, 3, 4]
    write_jsonl(path, [{"n": 9}], sealed=True)
    settle(path)
    assert read_jsonl(path) == [{"n": 9}] and not list(tmp_path.glob("*.changed"))


@pytest.mark.parametrize("how", ["gone", "replaced", "edited"])
def test_a_file_that_changes_while_it_is_written_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.jsonl"
    with (
        pytest.raises(KiyasError, match="was removed or changed while it was being written"),
        JsonlWriter(path) as writer,
    ):
        writer.write({"n": 0, "verdict": "WA"})
        if how == "edited":
            with path.open("rb+") as file:
                file.seek(4)
                file.write(b"x")
        else:
            path.unlink()
            if how == "replaced":
                path.write_text('{"n": 0, "verdict": "AC"}\n')
        writer.write({"n": 1, "verdict": "WA"})


def test_a_sealed_document_is_what_was_written(tmp_path: Path) -> None:
    for value in ({"a": [1, 2.5, "ğ\ud800"], "b": None}, [{"rows": 3}], []):
        write_sealed(tmp_path / "x.json", value)
        assert read_sealed(tmp_path / "x.json") == value
    write_json(tmp_path / "x.json", {"older": 1})
    assert read_sealed(tmp_path / "x.json") == {"older": 1}
    write_json(tmp_path / "x.json", {"a": 1, "sha256": "0" * 64})
    with pytest.raises(ChangedError):
        read_sealed(tmp_path / "x.json")


def test_the_seal_of_a_file_of_0_1_0_is_made_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"n": 0}\n{"n": 1}\n{"n"')
    assert not seal_of(path).exists()
    seal_older(path)
    grown(path, 1)
    assert [row["n"] for row in read_jsonl(path)] == [0, 1, 0]
    edited(path, '"n": 1', '"n": 7')
    settle(path)
    assert read_jsonl(path) == []


@pytest.mark.parametrize("damage", ["gone", "empty", "zeros"])
def test_a_lost_seal_confirms_nothing(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = grown(tmp_path / "x.jsonl", 5)
    seal = seal_of(path)
    seal.unlink() if damage == "gone" else seal.write_bytes(b"" if damage == "empty" else bytes(100))
    assert not files.is_confirmed(path)
    settle(path)
    assert read_jsonl(path) == []
    assert "x.jsonl was changed, cut or damaged" in capsys.readouterr().err
    assert len((tmp_path / "x.jsonl.changed").read_bytes().splitlines()) == 5, "nobody's rows are lost"


def test_a_seal_is_as_safe_as_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(files, "_sync", lambda file: synced.append(Path(file.name).name))
    grown(tmp_path / "x.jsonl", 1)
    assert synced[-2:] == ["x.jsonl", ".x.jsonl.seal"]


# -- file systems ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_fsync_or_rename_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, number: int
) -> None:
    def unable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if missing == "fsync":
        monkeypatch.setattr(os, "fsync", unable)
    else:
        monkeypatch.setattr(Path, "replace", unable)
    with pytest.raises(KiyasError, match=r"x.json safely: this file system does not support it .*\n.*--runs FOLDER"):
        write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    import fcntl

    def unable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unable)
    with pytest.raises(KiyasError, match=r"cannot lock files .*\n.*--runs FOLDER"), RunDir(tmp_path).lock():
        pass


def test_a_manifest_that_says_nothing_is_refused(finished: RunDir) -> None:
    path = finished.manifest_path(Stage.JUDGE)
    for value in ([], {}, {"inputs": {}, "counts": {}, "seconds": "0"}, {"inputs": {}, "counts": {}, "seconds": 0}):
        path.write_text(json.dumps(value))
        with pytest.raises(KiyasError, match=r"judge/manifest.json (is not the manifest of|does not say what)"):
            refuse(finished, READS[Stage.ANALYSE])
