"""What a run reports to trackers that people use: TensorBoard, Weights & Biases, Trackio (`training.report_to`).

Theory of operation. Each tracker has a process of its own (`python -m kiyas.pipeline.trackers`) that follows the files
of the run folder: losses as training writes them, pass rates once there are findings, at the end the conclusion and the
report. The run only says what will be sent, starts the processes and ends them: a tracker that fails, hangs or prints
neither stops nor changes it, and leaves no file outside the run folder. What is sent is noted in trackers/NAME.json
just before, so that a run that goes on sends no point twice; `--redo` begins a new run at the tracker.

Not guaranteed: that nothing is missing at the tracker where a process was killed between the note and the sending.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import netrc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from kiyas import report
from kiyas.analyse import Findings
from kiyas.pipeline import identity
from kiyas.runfolder.files import Tail, atomic_text, read_json, read_sealed, sha256
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Record, read_record
from kiyas.study.settings import Study, Tracker
from kiyas.types import AdapterId, KiyasError
from kiyas.work.progress import tell

POLL_S = 2.0
FINISH_S, STOPPED_S = 60.0, 1.0
"""Seconds that trackers have at the end of a run, and when it is stopped."""
SILENT_S = 4.0
PROJECT = "kiyas"
ANEW = (Stage.DATA, Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)
"""Stages that make other points when they are done again."""


@dataclass(frozen=True)
class Point:
    """One value of one training."""

    metric: str
    who: str
    step: int
    value: float

    @property
    def series(self) -> str:
        return f"{self.metric}/{self.who}"


@dataclass
class Sent:
    """What a tracker was sent."""

    attempt: int = 1
    """the run at the tracker; more than 1 after `--redo`"""
    steps: dict[str, int] = field(default_factory=dict)
    """the last step of each series"""
    finished: str = ""
    """digest of the findings whose conclusion was sent"""

    @classmethod
    def read(cls, path: Path) -> Sent:
        """Raises KiyasError for what is not a note of ours."""
        with contextlib.suppress(TypeError):
            made = cls(**read_json(path)) if path.exists() else cls()
            if isinstance(made.attempt, int) and isinstance(made.steps, dict):
                return made
        raise KiyasError(f"{path} is not a note of ours", "remove it")

    def write(self, path: Path) -> None:
        atomic_text(path, json.dumps(dataclasses.asdict(self)))


def place(folder: RunDir) -> Path:
    """Where trackers keep their files."""
    return folder.root / "trackers"


def note_of(folder: RunDir, tracker: Tracker) -> Path:
    return place(folder) / f"{tracker}.json"


# -- the run's side ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def following(study: Study, folder: RunDir, redo: Stage | None) -> Iterator[None]:
    """The trackers of the study follow the run folder for as long as this lasts.

    Says beforehand, one line a tracker, what is sent, and where. Raises KiyasError for missing packages.
    """
    identity.refuse_missing_trackers(study)
    started = []
    for tracker in study.training.report_to:
        try:
            sent = _so_far(note_of(folder, tracker), redo)
        except (KiyasError, OSError) as error:
            what = error.args[0] if isinstance(error, KiyasError) else error
            again = f"remove {note_of(folder, tracker)}, and everything is sent"
            tell(
                f"{tracker}: nothing is sent, since the record of what was sent before cannot be read ({what}); {again}"
            )
            continue
        if folder.manifest(Stage.REPORT) is not None and sent.finished == sha256(folder.findings):
            continue
        environment, said = _where(tracker, _title(study.name, sent), folder)
        tell(f"{tracker}: {said}")
        if environment is not None and (process := _start(tracker, folder, environment)) is not None:
            started.append(process)
    ended = False
    try:
        yield
        ended = True
    finally:
        _end(started, ended)


def _so_far(note: Path, redo: Stage | None) -> Sent:
    """What a tracker was sent; nothing of a run that begins anew."""
    sent = Sent.read(note)
    if redo in ANEW and note.exists():
        sent = Sent(sent.attempt + 1)
        sent.write(note)
    return sent


def _title(name: str, sent: Sent) -> str:
    return name if sent.attempt == 1 else f"{name}-{sent.attempt}"


SENDS = "losses, pass rates, the conclusion and the report (with problems and programs)"


def _where(tracker: Tracker, title: str, folder: RunDir) -> tuple[dict[str, str] | None, str]:
    """A tracker's own variables, where the user has not set them (None: it is off); and what is sent where."""
    own = place(folder).resolve() / str(tracker)
    if tracker is Tracker.TENSORBOARD:
        return {}, f"{SENDS} go to {own / title}, on this machine (to see them: tensorboard --logdir {own})"
    if tracker is Tracker.TRACKIO:
        project = os.getenv("TRACKIO_PROJECT", PROJECT)
        remote = os.getenv("TRACKIO_SPACE_ID") or os.getenv("TRACKIO_SERVER_URL")
        what = f"settings, {SENDS} go to project {project}, run {title}"
        if remote:
            return {
                "TRACKIO_DIR": str(own)
            }, f"{what}, over the network to {urlsplit(remote)._replace(query='').geturl()}"
        own = Path(os.getenv("TRACKIO_DIR", own))
        return {
            "TRACKIO_DIR": str(own)
        }, f"{what}, in {own}, on this machine (to see them: TRACKIO_DIR={own} trackio show)"
    mode, why = _wandb_mode()
    if mode == "disabled":
        return None, "off, because WANDB_MODE is disabled"
    what = f"settings, {SENDS} go to project {os.getenv('WANDB_PROJECT', PROJECT)}, run {title}"
    files = {"WANDB_DIR": own, "WANDB_DATA_DIR": own, "WANDB_CACHE_DIR": own / "cache"}
    environment = {**{name: str(path) for name, path in files.items()}, "WANDB_ERROR_REPORTING": "false"}
    if mode == "offline":
        found = Path(os.getenv("WANDB_DIR", own))
        later = f"to upload it later: wandb sync {found}/wandb/offline-run-*"
        return {**environment, "WANDB_MODE": mode}, f"{what}, in {found}, on this machine: {why} ({later})"
    return environment, f"{what}, over the network to {_wandb_url()}"


def _wandb_url() -> str:
    return os.getenv("WANDB_BASE_URL", "https://api.wandb.ai")


def _wandb_mode() -> tuple[str, str]:
    """online, offline or disabled; and why it is offline. Nobody is asked for a key."""
    if mode := os.getenv("WANDB_MODE"):
        return mode, f"WANDB_MODE is {mode}"
    known = bool(os.getenv("WANDB_API_KEY") or os.getenv("WANDB_IDENTITY_TOKEN_FILE"))
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        known = known or netrc.netrc(os.getenv("NETRC")).authenticators(urlsplit(_wandb_url()).netloc) is not None
    return ("online", "") if known else ("offline", "no key was found; `wandb login` stores one")


@dataclass(frozen=True)
class _Process:
    tracker: Tracker
    process: subprocess.Popen[str]
    noise: Path
    """what it printed"""
    listener: threading.Thread


def _start(tracker: Tracker, folder: RunDir, environment: Mapping[str, str]) -> _Process | None:
    command = [sys.executable, "-m", "kiyas.pipeline.trackers", str(tracker), str(folder.root.resolve())]
    printed = place(folder) / f"{tracker}.log"
    try:
        place(folder).mkdir(exist_ok=True)
        with printed.open("a", encoding="utf-8") as noise:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                env={**environment, **os.environ, "PYTHONSAFEPATH": "1"},
                cwd=place(folder),
            )
    except OSError as error:
        tell(f"{tracker}: it cannot be started ({error}); the run continues without it")
        return None
    listener = threading.Thread(target=_listen, args=(tracker, process), daemon=True)
    listener.start()
    return _Process(tracker, process, printed, listener)


def _listen(tracker: Tracker, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        tell(f"{tracker}: {line.strip()}")


def _end(started: Iterable[_Process], ended: bool) -> None:
    """Lets them send the rest, if the run has `ended`, and ends them."""
    started = list(started)
    for each in started:
        assert each.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone, and has said why
            if ended:
                each.process.stdin.write("finish\n")
            each.process.stdin.close()
    latest = time.monotonic() + (FINISH_S if ended else STOPPED_S)
    while (late := [each for each in started if each.process.poll() is None]) and (
        left := latest - time.monotonic()
    ) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            late[0].process.wait(min(left, SILENT_S))
            continue
        if ended:
            names = " and ".join(each.tracker for each in late)
            tell(f"waiting for {names} to send the rest, at most {max(0.0, latest - time.monotonic()):.0f} s")
    for each in started:
        if each in late:
            each.process.kill()
            if ended:
                missing = f"some points may be missing (its output: {each.noise})"
                tell(f"{each.tracker}: it did not finish within {FINISH_S:.0f} s and was ended: {missing}")
        each.process.wait()
        each.listener.join(STOPPED_S)


# -- the tracker's side -----------------------------------------------------------------------------------------------


class Adapter(Protocol):
    """One tracker's library. It is made when there is something to send."""

    def log(self, point: Point) -> None: ...

    def flush(self) -> None: ...

    def finish(self, conclusion: Path, pages: list[Path]) -> None:
        """Sends the conclusion and the report. `pages`: HTML and Markdown."""

    def close(self) -> None: ...


class _TensorBoard:
    """A folder of events for each training, so that the trainings of a metric share a chart."""

    def __init__(self, title: str, folder: Path, record: Record, id: str) -> None:
        self.folder = folder / title
        self.writers: dict[str, Any] = {}

    def _write(self, who: str, step: int, **value: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if who not in self.writers:
            self.writers[who] = EventFileWriter(str(self.folder / who))
        summary = Summary(value=[Summary.Value(**value)])
        self.writers[who].add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def log(self, point: Point) -> None:
        self._write(point.who, point.step, tag=point.metric, simple_value=point.value)

    def flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()

    def finish(self, conclusion: Path, pages: list[Path]) -> None:
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        about = create_summary_metadata("", "")
        for path in (conclusion, *(page for page in pages if page.suffix == ".md")):
            text = TensorProto(dtype=DT_STRING, string_val=[path.read_bytes()])
            self._write(".", 0, tag=path.stem, metadata=about, tensor=text)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class _Wandb:
    """One run, each series with steps of its own. Neither code, host nor console output is sent."""

    def __init__(self, title: str, folder: Path, record: Record, id: str) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=30.0,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        project = os.getenv("WANDB_PROJECT", PROJECT)
        self.run: Any = wandb.init(
            project=project, name=title, id=id, resume="allow", config=_settings(record), settings=settings
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, point: Point) -> None:
        self.run.log({point.series: point.value, "step": point.step})

    def flush(self) -> None:
        pass  # it sends by itself

    def finish(self, conclusion: Path, pages: list[Path]) -> None:
        import wandb

        self.run.summary["conclusion"] = conclusion.read_text(encoding="utf-8")
        artifact = wandb.Artifact(f"report-{self.run.id}", type="report")
        for path in (conclusion, *pages):
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def close(self) -> None:
        import wandb

        self.run.finish()
        wandb.teardown()


class _Trackio:
    """One run. Figures of the machine are not sent."""

    def __init__(self, title: str, folder: Path, record: Record, id: str) -> None:
        import trackio

        project = os.getenv("TRACKIO_PROJECT", PROJECT)
        self.run: Any = trackio.init(
            project,
            name=title,
            resume="allow",
            config=_settings(record),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.id = id

    def log(self, point: Point) -> None:
        self.run.log({point.series: point.value}, step=point.step)

    def flush(self) -> None:
        pass  # it sends by itself

    def finish(self, conclusion: Path, pages: list[Path]) -> None:
        import trackio

        artifact = trackio.Artifact(name=f"report-{self.id}", type="report")
        for path in (conclusion, *pages):
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def close(self) -> None:
        self.run.finish()


ADAPTERS: dict[Tracker, Callable[[str, Path, Record, str], Adapter]] = {
    Tracker.TENSORBOARD: _TensorBoard,
    Tracker.WANDB: _Wandb,
    Tracker.TRACKIO: _Trackio,
}


def _settings(record: Record) -> dict[str, Any]:
    return record.study.model_dump(mode="json", by_alias=True, exclude_none=True) if record.study else {}


class Follower:
    """Reads what is new in the run folder, and sends it once."""

    def __init__(self, tracker: Tracker, folder: RunDir) -> None:
        self.tracker, self.folder = tracker, folder
        self.sent = Sent.read(note_of(folder, tracker))
        self._tail = Tail()
        self._adapter: Adapter | None = None

    @property
    def adapter(self) -> Adapter:
        if self._adapter is None:
            record = read_record(self.folder)
            title, id = _title(record.name, self.sent), f"{record.run_id[:16]}-{self.sent.attempt}"
            self._adapter = ADAPTERS[self.tracker](title, place(self.folder) / str(self.tracker), record, id)
        return self._adapter

    def poll(self) -> None:
        """Sends the points that are new."""
        points = [*self._losses(), *self._pass_rates()]
        new = [point for point in points if point.step > self.sent.steps.get(point.series, -1)]
        if not new:
            return
        adapter, before = self.adapter, dict(self.sent.steps)
        self.sent.steps |= {point.series: point.step for point in new}
        self._note()
        try:
            for point in new:
                adapter.log(point)
                before[point.series] = point.step
            adapter.flush()
        except BaseException:
            self.sent.steps = before
            self._note()
            raise

    def finish(self) -> None:
        """Sends the rest, and of a finished run the conclusion and the report."""
        self.poll()
        if self.folder.manifest(Stage.REPORT) is None:
            return
        digest, before = sha256(self.folder.findings), self.sent.finished
        if digest == before:
            return
        conclusion = place(self.folder) / "conclusion.txt"
        findings = Findings.from_json(read_sealed(self.folder.findings))
        atomic_text(conclusion, report.conclusion(findings) + "\n")
        pages = sorted([*self.folder.report.glob("index*.html"), *self.folder.report.glob("report*.md")])
        adapter, self.sent.finished = self.adapter, digest
        self._note()
        try:
            adapter.finish(conclusion, pages)
            adapter.flush()
        except BaseException:
            self.sent.finished = before
            self._note()
            raise

    def close(self) -> None:
        if self._adapter is not None:
            self._adapter.close()

    def _note(self) -> None:
        self.sent.write(note_of(self.folder, self.tracker))

    def _losses(self) -> Iterator[Point]:
        merged = self.folder.train_log
        for path in [merged] if merged.exists() else sorted(self.folder.train_state.glob("part-*.jsonl")):
            for row in self._tail.rows(path):
                if row["kind"] in ("train", "validation") and _is_number(row["loss"]):
                    training = _name(AdapterId(row["arm"], row["variant"], row["seed"]))
                    other = row["kind"] == "validation" and row["on"] != row["arm"]
                    metric = "train/loss" if row["kind"] == "train" else "eval/loss"
                    yield Point(f"{metric}_on/{row['on']}" if other else metric, training, row["step"], row["loss"])

    def _pass_rates(self) -> Iterator[Point]:
        """Each training's curve begins with the base."""
        if self.folder.manifest(Stage.ANALYSE) is None:
            return
        findings = Findings.from_json(read_sealed(self.folder.findings))
        base = next((score.rate for score in findings.scores if score.adapter.is_base), math.nan)
        rates: dict[str, dict[int, float]] = {}
        for score in sorted(findings.scores, key=lambda score: score.adapter):
            if not score.adapter.is_base:
                rates.setdefault(_name(score.adapter), {0: base})[score.adapter.step] = score.rate
        for who, of_step in rates.items():
            yield from (
                Point(findings.metric, who, step, rate) for step, rate in of_step.items() if math.isfinite(rate)
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name(adapter: AdapterId) -> str:
    """deep/seed-0, deep/lr-0.001/seed-0"""
    return "/".join(filter(None, (adapter.arm, adapter.variant, f"seed-{adapter.seed}")))


def main(tracker: str, root: str) -> int:
    """Follows a run folder until standard input ends; a line there says that the run has ended by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends us
    # What libraries print is not for the user.
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.suppress(OSError):
        # Of a run that was killed a moment ago, one may still be sending: its note is read when it is gone.
        fcntl.flock(2, fcntl.LOCK_EX)
    follower = Follower(Tracker(tracker), RunDir(Path(root)))
    ended = threading.Event()
    finished: list[str] = []

    def listen() -> None:
        finished.extend(sys.stdin)
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        while not ended.wait(POLL_S):
            follower.poll()
        if finished:
            follower.finish()
        follower.close()  # libraries send behind our back: what they hold goes now
    except Exception as error:  # noqa: BLE001 (whatever a tracker's library raises: the run says it, and goes on)
        what = " ".join(str(error).split())[:300]
        messages.write(f"it failed, and the run continues without it: {type(error).__name__}: {what}\n")
        messages.flush()
        return 1
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    # Threads of a library that wait for a network must not hold us.
    os._exit(code)
