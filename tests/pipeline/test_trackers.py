"""Trackers: what is sent, read back from their own files; each point once, and nothing of it can hurt a run."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kiyas.analyse import analyse
from kiyas.check import check
from kiyas.pipeline import identity, stages, trackers
from kiyas.pipeline.trackers import Follower, Point, Sent, following, note_of
from kiyas.runfolder.files import read_json, write_json, write_sealed
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.file import parse
from kiyas.study.settings import Study, Tracker
from kiyas.types import KiyasError
from synthetic import make_run

ALL = list(Tracker)


def study(*report_to: Tracker, **more: Any) -> Study:
    given = {"name": "t", "model_name_or_path": "practice", "arms": {"deep": {"dataset_name": "practice/deep"}}, **more}
    return Study.model_validate({**given, "training": {**given.get("training", {}), "report_to": list(report_to)}})


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    """A run that has begun, and trains nothing yet."""
    run = make_run(tmp_path / "t", steps=(20, 40), seeds=(0,))
    found = RunDir(run)
    found.train_log.unlink()
    resolved = read_json(found.resolved)
    write_json(found.resolved, {**resolved, "run_id": "1234567890abcdef9999"})
    return found


def row(step: int, loss: float | None = 0.5, arm: str = "deep", **more: Any) -> str:
    kind = "validation" if "on" in more else "train"
    return json.dumps({"kind": kind, "arm": arm, "variant": "", "seed": 0, "step": step, "loss": loss, **more}) + "\n"


def part_log(folder: RunDir, text: str, part: int = 0) -> Path:
    path = folder.train_state / f"part-{part}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    return path


def finished(folder: RunDir, *which: Stage) -> None:
    for stage in which:
        write_sealed(folder.manifest_path(stage), {"inputs": {}, "counts": {}, "seconds": 0.0})


class Collected:
    """An adapter that keeps what it is sent; it fails at the point of step `fails`."""

    def __init__(self, fails: int = -1) -> None:
        self.points: list[Point] = []
        self.files: list[str] = []
        self.fails = fails

    def log(self, point: Point) -> None:
        if point.step == self.fails:
            raise ConnectionError("no route")
        self.points.append(point)

    def flush(self) -> None: ...

    def finish(self, conclusion: Path, pages: list[Path]) -> None:
        self.files += [conclusion.read_text(encoding="utf-8"), *(page.name for page in pages)]

    def close(self) -> None: ...


def follower(folder: RunDir, fails: int = -1) -> tuple[Follower, Collected]:
    made, collected = Follower(Tracker.TRACKIO, folder), Collected(fails)
    trackers.place(folder).mkdir(exist_ok=True)
    made._adapter = collected
    return made, collected


# -- the study file -------------------------------------------------------------------------------------------------

FILE = "name: t\nmodel_name_or_path: practice\narms: {a: {dataset_name: practice/deep}}\n"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("[tensorboard, wandb, trackio]", ALL),
        ("wandb", [Tracker.WANDB]),
        ("[wandb, wandb]", [Tracker.WANDB]),
        ("none", []),
        ("[none]", []),
        ("[]", []),
        ("null", []),
    ],
)
def test_it_is_written_as_in_transformers(written: str, meant: list[Tracker]) -> None:
    assert parse(FILE + f"training: {{report_to: {written}}}\n", "s", Path()).training.report_to == meant


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training: {report_to: all}", "name the trackers: tensorboard, wandb, trackio"),
        ("training: {report_to: mlflow}", "'tensorboard', 'wandb' or 'trackio'"),
        ("training: {report_to: [tensorbord]}", "'tensorboard', 'wandb' or 'trackio'"),
        ("report_to: wandb", "it belongs under training:"),
        ("report: {report_to: wandb}", "it belongs under training:"),
        ("use_wandb: true", "here it is called training.report_to: [wandb]"),
        ("training: {logging_dir: logs}", "here it is called training.report_to: [tensorboard]"),
    ],
)
def test_where_else_it_is_written_is_told(text: str, told: str) -> None:
    with pytest.raises(KiyasError) as error:
        parse(FILE + text + "\n", "s", Path())
    assert told in str(error.value)


def test_what_is_not_installed_is_one_mistake_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = identity.importlib.util.find_spec
    monkeypatch.setattr(
        identity.importlib.util, "find_spec", lambda name: None if name in ("wandb", "trackio") else real(name)
    )
    for attempt in (check, lambda it: stages.run(it, RunDir(tmp_path / "run"))):
        with pytest.raises(KiyasError, match="report_to needs wandb and trackio, not installed") as error:
            attempt(study(*ALL))
        assert error.value.hint == "pip install 'kiyas[wandb,trackio]', or leave it out"
    assert not (tmp_path / "run" / "data").exists()


def test_trackers_are_no_part_of_what_a_run_is(folder: RunDir) -> None:
    record = read_record(folder)
    assert record.study is not None
    with_one = record.study.training.model_copy(update={"report_to": [Tracker.WANDB]})
    other = record.study.model_copy(update={"training": with_one})
    assert identity._reported_as_before(other, record) == record.study
    resolved = read_json(folder.resolved)
    before = analyse(folder.root).to_json()
    resolved["study"]["training"]["report_to"] = ["wandb"]
    write_json(folder.resolved, resolved)
    assert analyse(folder.root).to_json() == before


# -- what is sent ---------------------------------------------------------------------------------------------------


def test_losses_are_sent_as_they_are_written(folder: RunDir) -> None:
    made, collected = follower(folder)
    made.poll()
    assert collected.points == []
    part_log(folder, row(0, 0.9, on="deep") + row(0, 0.8, on="diverse") + row(20, 0.7) + '{"kind": "tra')
    part_log(folder, row(20, 0.6, arm="diverse") + row(20, None, arm="deep", on="deep"), part=1)
    made.poll()
    assert collected.points == [
        Point("eval/loss", "deep/seed-0", 0, 0.9),
        Point("eval/loss_on/diverse", "deep/seed-0", 0, 0.8),
        Point("train/loss", "deep/seed-0", 20, 0.7),
        Point("train/loss", "diverse/seed-0", 20, 0.6),
    ]
    del collected.points[:]
    part_log(folder, row(40, 0.5).removeprefix('{"kind": "tra'))
    made.poll()
    made.poll()
    assert collected.points == [Point("train/loss", "deep/seed-0", 40, 0.5)]


def test_a_run_that_goes_on_sends_nothing_twice(folder: RunDir) -> None:
    path = part_log(folder, row(20) + row(40))
    made, collected = follower(folder)
    made.poll()
    # A kill loses the steps since the last save; they are made again.
    path.write_text(row(20))
    again, later = follower(folder)
    again.poll()
    part_log(folder, row(40) + row(60))
    again.poll()
    made.poll()  # the file was cut under it
    path.unlink()
    folder.train_log.write_text(row(20) + row(40) + row(60) + row(80))
    again.poll()
    assert [point.step for point in collected.points] == [20, 40, 60]
    assert [point.step for point in later.points] == [60, 80]


def test_what_a_tracker_did_not_take_is_sent_the_next_time(folder: RunDir) -> None:
    part_log(folder, row(20) + row(40) + row(60))
    made, collected = follower(folder, fails=40)
    with pytest.raises(ConnectionError):
        made.poll()
    assert [point.step for point in collected.points] == [20]
    again, later = follower(folder)
    again.poll()
    assert [point.step for point in later.points] == [40, 60]


def test_pass_rates_begin_with_the_base_and_the_conclusion_is_sent_once(folder: RunDir) -> None:
    findings = analyse(folder.root)
    write_sealed(folder.findings, findings.to_json())
    made, collected = follower(folder)
    made.poll()
    assert collected.points == [], "the findings are not finished"
    finished(folder, Stage.ANALYSE)
    made.poll()
    base, *_ = (score.rate for score in findings.scores if score.adapter.is_base)
    wanted = {(arm, 0, base) for arm in ("deep", "diverse")}
    wanted |= {(s.adapter.arm, s.adapter.step, s.rate) for s in findings.scores if not s.adapter.is_base}
    assert {(p.who.split("/")[0], p.step, p.value) for p in collected.points} == wanted
    assert {p.metric for p in collected.points} == {"pass@1"} and len(collected.points) == len(wanted) == 6
    made.finish()
    assert collected.files == [], "there is no report yet"
    folder.report.mkdir()
    for name in ("index.html", "index.tr.html", "report.md", "other.csv"):
        (folder.report / name).write_text(name)
    finished(folder, Stage.REPORT)
    made.finish()
    conclusion, *pages = collected.files
    assert conclusion.startswith("These numbers") and pages == ["index.html", "index.tr.html", "report.md"]
    again, later = follower(folder)
    again.finish()
    assert later.points == [] and later.files == []


# -- the processes --------------------------------------------------------------------------------------------------


def scalars(run: Path) -> dict[str, list[tuple[str, int, float]]]:
    """TensorBoard's own reader: training → (metric, step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted({path.parent for path in run.rglob("events.*")} - {run}):
        events = EventAccumulator(str(folder)).Reload()
        tags = events.Tags()["scalars"]
        found[str(folder.relative_to(run))] = [(t, e.step, e.value) for t in tags for e in events.Scalars(t)]
    return found


def test_losses_are_there_while_the_run_goes_on(folder: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run = trackers.place(folder) / "tensorboard" / "t"
    with following(study(Tracker.TENSORBOARD), folder, None):
        said = capsys.readouterr().err
        part_log(folder, row(20, 0.75))
        until = time.monotonic() + 60
        while not any(scalars(run).values()) and time.monotonic() < until:
            time.sleep(0.2)
        assert scalars(run) == {"deep/seed-0": [("train/loss", 20, 0.75)]}
    assert said.count("\n") == 1 and f"go to {run}" in said and "on this machine" in said


def test_a_run_that_is_done_again_is_another_run_there(
    folder: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_start", lambda *_: None)
    with following(study(Tracker.TENSORBOARD), folder, Stage.TRAIN):
        assert "/t, on" in capsys.readouterr().err, "nothing was sent before"
    note = note_of(folder, Tracker.TENSORBOARD)
    note.parent.mkdir()
    Sent(steps={"train/loss/deep/seed-0": 20}).write(note)
    with following(study(Tracker.TENSORBOARD), folder, Stage.TRAIN):
        assert "/t-2, on" in capsys.readouterr().err
    assert Sent.read(note) == Sent(attempt=2)
    with following(study(Tracker.TENSORBOARD), folder, Stage.REPORT):
        assert "/t-2" in capsys.readouterr().err


def fake(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fakes").mkdir(exist_ok=True)
    (folder / "fakes" / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder / "fakes"))


def test_a_tracker_that_fails_or_hangs_is_named_and_harms_nothing(
    folder: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "trackio", "print('noise')\nraise ConnectionError('no route\\nto the host')\n", monkeypatch)
    fake(tmp_path, "wandb", "import time\ntime.sleep(600)\n", monkeypatch)
    part_log(folder, row(20))
    with following(study(Tracker.TRACKIO), folder, None):
        pass
    monkeypatch.setattr(trackers, "FINISH_S", 1.0)
    monkeypatch.setattr(trackers, "SILENT_S", 0.4)
    with following(study(Tracker.WANDB), folder, None):
        pass
    told = capsys.readouterr()
    assert (
        told.err.count("trackio: it failed, and the run continues without it: ConnectionError: no route to the host")
        == 1
    )
    assert "waiting for wandb to send the rest, at most 1 s" in told.err
    assert told.err.count("wandb: it did not finish within 1 s") == 1 and not told.out and "noise" not in told.err
    assert Sent.read(note_of(folder, Tracker.TRACKIO)).steps == {}


def test_a_run_that_is_stopped_does_not_wait(folder: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "wandb", "import time\ntime.sleep(600)\n", monkeypatch)
    waited: list[float] = []
    real = subprocess.Popen.wait

    def wait(self: Any, timeout: float | None = None) -> int:
        waited.append(timeout or 0)
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt), following(study(Tracker.WANDB), folder, None):
        raise KeyboardInterrupt
    assert waited and max(waited) <= trackers.STOPPED_S


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 3, "more": 1}', '{"steps": null}'])
def test_a_note_that_is_spoilt_does_not_stop_the_run(
    folder: RunDir, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(trackers, "_start", lambda *given: started.append(given))
    trackers.place(folder).mkdir()
    note_of(folder, Tracker.WANDB).write_text(text)
    with following(study(Tracker.WANDB, Tracker.TENSORBOARD), folder, None):
        pass
    assert "wandb: nothing is sent, since the record of what was sent before cannot be read" in capsys.readouterr().err
    assert [tracker for tracker, *_ in started] == [Tracker.TENSORBOARD]


BUFFERS = """
class Run:
    points = []
    def log(self, values, step):
        self.points.append(values)
        open("taken", "w").close()
    def finish(self):
        open("sent", "w").write(str(self.points))
def init(*_, **__):
    return Run()
"""


@pytest.mark.slow
def test_what_a_library_still_holds_is_sent_when_the_run_is_stopped(
    folder: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "trackio", BUFFERS, monkeypatch)
    monkeypatch.setattr(trackers, "STOPPED_S", 30.0)
    part_log(folder, row(20, 0.75))
    with pytest.raises(KeyboardInterrupt), following(study(Tracker.TRACKIO), folder, None):
        until = time.monotonic() + 60
        while not (trackers.place(folder) / "taken").exists() and time.monotonic() < until:
            time.sleep(0.1)
        raise KeyboardInterrupt
    assert (trackers.place(folder) / "sent").read_text() == "[{'train/loss/deep/seed-0': 0.75}]"


@pytest.mark.parametrize(
    ("tracker", "variables", "said"),
    [
        (Tracker.WANDB, {}, "no key was found"),
        (Tracker.WANDB, {"WANDB_MODE": "disabled"}, "off, because WANDB_MODE is disabled"),
        (Tracker.WANDB, {"WANDB_MODE": "offline", "WANDB_API_KEY": "x"}, "on this machine: WANDB_MODE is offline"),
        (Tracker.WANDB, {"WANDB_API_KEY": "x"}, "over the network to https://api.wandb.ai"),
        (Tracker.WANDB, {"WANDB_API_KEY": "x", "WANDB_PROJECT": "mine"}, "project mine, run t, over the network"),
        (Tracker.WANDB, {"WANDB_DIR": "/elsewhere"}, "in /elsewhere, on this machine"),
        (Tracker.TRACKIO, {}, "trackers/trackio, on this machine"),
        (Tracker.TRACKIO, {"TRACKIO_SPACE_ID": "me/space"}, "over the network to me/space"),
        (Tracker.TRACKIO, {"TRACKIO_SERVER_URL": "https://h/?write_token=secret"}, "over the network to https://h/"),
        (Tracker.TENSORBOARD, {}, "tensorboard --logdir"),
    ],
)
def test_where_it_goes_is_said(
    folder: RunDir, tracker: Tracker, variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment, told = trackers._where(tracker, "t", folder)
    assert said in told and "secret" not in told
    assert (environment is None) == ("off" in told.split(",")[0])
    outside = [
        v for v in (environment or {}).values() if v.startswith("/") and not v.startswith(str(folder.root.parent))
    ]
    assert outside == [], "no file outside the run folder, unless the user says so"


# -- real trackers, read back ---------------------------------------------------------------------------------------


def wandb_records(file: Path) -> list[Any]:
    """What an offline run holds: LevelDB's log format after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _crc, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the end of one
            found.append(Record.FromString(whole))
            whole = b""
    return found


def of_wandb(folder: RunDir) -> tuple[list[tuple[str, int, float]], dict[str, str], list[Any]]:
    """(series, step, value), the summary, artifacts: over all files of the run."""
    points, summary, artifacts = [], dict[str, str](), []
    for file in sorted((trackers.place(folder) / "wandb").rglob("*.wandb")):
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "history":
                items = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                points += [
                    (key, items["step"], value) for key, value in items.items() if key != "step" and key[0] != "_"
                ]
            elif record.WhichOneof("record_type") == "summary":
                summary |= {i.key or ".".join(i.nested_key): i.value_json for i in record.summary.update}
            elif record.WhichOneof("record_type") == "request" and record.request.HasField("log_artifact"):
                artifacts.append(record.request.log_artifact.artifact)
            elif record.WhichOneof("record_type") == "artifact":
                artifacts.append(record.artifact)
    return points, summary, artifacts


TRACKIO = """
import json
from trackio import SQLiteStorage
run, = SQLiteStorage.get_runs("kiyas")
logs = SQLiteStorage.get_logs("kiyas", run)
print(json.dumps([run, logs, SQLiteStorage.get_artifacts("kiyas")], default=str))
"""


def of_trackio(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[tuple[str, int, float]], str]:
    monkeypatch.setenv("TRACKIO_DIR", str(trackers.place(folder).resolve() / "trackio"))
    done = subprocess.run([sys.executable, "-c", TRACKIO], capture_output=True, text=True, check=True)
    run, logs, artifacts = json.loads(done.stdout.splitlines()[-1])
    points = [(key, each["step"], value) for each in logs for key, value in each.items() if "/" in key]
    return run, points, json.dumps(artifacts)


@pytest.mark.slow
def test_a_whole_run_read_back_from_each_tracker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "TRACKIO_DIR", "TRACKIO_SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    training = {"budget": {"steps": 6}, "learning_rate": 1e-2, "max_length": 256, "logging_steps": 2, "workers": 1}
    settings = study(
        *ALL,
        seeds=1,
        arms={name: {"dataset_name": f"practice/{name}"} for name in ("deep", "diverse")},
        training={**training, "eval_steps": 3, "save_steps": 3},
        benchmarks={"primary": {"dataset": "practice", "problems": 3}},
        generation={"max_new_tokens": 30, "batch_invariance": 0},
        judge={"isolation": "best"},
    )
    folder = RunDir(tmp_path / "run")
    stages.run(settings, folder, until=Stage.TRAIN)
    stages.run(settings, folder)
    log = [json.loads(line) for line in folder.train_log.read_text().splitlines()]
    wanted = []
    for each in log:
        other = each["kind"] == "validation" and each["on"] != each["arm"]
        metric = "train/loss" if each["kind"] == "train" else f"eval/loss_on/{each['on']}" if other else "eval/loss"
        wanted.append((f"{metric}/{each['arm']}/seed-0", each["step"], each["loss"]))
    scores = analyse(folder.root).scores
    base = next(score.rate for score in scores if score.adapter.is_base)
    wanted += [(f"pass@1/{s.adapter.arm}/seed-0", s.adapter.step, s.rate) for s in scores if not s.adapter.is_base]
    wanted += [(f"pass@1/{arm}/seed-0", 0, base) for arm in ("deep", "diverse")]
    wanted.sort()
    assert len(wanted) == 6 + 12 + 6

    def read() -> list[list[tuple[str, int, float]]]:
        events = scalars(trackers.place(folder) / "tensorboard" / "t")
        of_board = [(f"{tag}/{who}", step, value) for who, found in events.items() for tag, step, value in found]
        return [sorted(of_board), sorted(of_wandb(folder)[0]), sorted(of_trackio(folder, monkeypatch)[1])]

    for found in read():
        assert [each[:2] for each in found] == [each[:2] for each in wanted]
        assert [each[2] for each in found] == pytest.approx([each[2] for each in wanted], rel=1e-6)
    _, summary, artifacts = of_wandb(folder)
    assert "These numbers" in summary["conclusion"] and [each.type for each in artifacts] == ["report"]
    names = {entry.path for each in artifacts for entry in each.manifest.contents}
    assert names == {"conclusion.txt", "index.html", "report.md"}
    run, _, told = of_trackio(folder, monkeypatch)
    assert run == "t" and "report-" in told
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(trackers.place(folder) / "tensorboard" / "t")).Reload()
    (text,) = board.Tensors("conclusion")
    assert b"These numbers" in text.tensor_proto.string_val[0] and board.Tensors("report")

    # The same command, and one without trackers: nothing is sent twice, and nothing is done again.
    before = {path: path.read_bytes() for path in folder.root.rglob("*.json") if "trackers" not in path.parts}
    capsys.readouterr()
    stages.run(settings, folder)
    assert "trackers" not in capsys.readouterr().err, "there is nothing to send"
    stages.run(settings.model_copy(update={"training": settings.training.model_copy(update={"report_to": []})}), folder)
    assert {path: path.read_bytes() for path in before} == before
    assert [len(found) for found in read()] == [len(wanted)] * 3
    outside = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert outside == []
