"""The table of damage: a file of a finished run folder × what happened to it × the command that is given next.

A command may do two things: end with the findings of the undamaged run (exit 0), or refuse in one line that names the
file and what to do (exit 1, with a hint). Anything else is a row "silent", "wrong" or "lost".
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas import cli
from kiyas.analyse.findings import FORMAT
from kiyas.runfolder.files import read_sealed

FILES = {
    "resolved.json": None,
    "study.yaml": None,
    "data/deep.jsonl": "data",
    "data/problems.jsonl": "data",
    "data/contamination.json": "data",
    "data/facts.json": "data",
    "data/manifest.json": "data",
    "train/log.jsonl": "train",
    "train/checkpoints/deep/seed-0/step-000004/adapter_model.safetensors": "train",
    "train/checkpoints/deep/seed-0/step-000004/adapter_config.json": "train",
    "train/manifest.json": "train",
    "generate/completions.jsonl": "generate",
    "generate/redecoded.jsonl": "generate",
    "generate/manifest.json": "generate",
    "judge/judgments.jsonl": "judge",
    "judge/redecoded.jsonl": "judge",
    "judge/manifest.json": "judge",
    "analyse/findings.json": "analyse",
    "analyse/manifest.json": "analyse",
    "report/index.html": "report",
    "report/tables/results.csv": "report",
    "report/report.md": "report",
    "report/manifest.json": "report",
}
"""Files of a finished run, and the stage that made each."""


def _edit(path: Path) -> None:
    """One value is another one: a verdict, a digit; as large and as old as before."""
    before, data = path.stat(), path.read_bytes()
    for old, new in ((b'"WA"', b'"AC"'), (b'"AC"', b'"WA"'), *((b"%d" % n, b"%d" % ((n + 1) % 10)) for n in range(10))):
        at = data.find(old, len(data) // 3)
        if at >= 0:
            path.write_bytes(data[:at] + new + data[at + len(old) :])
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            return
    raise AssertionError(f"nothing to edit in {path}")


def _cut(path: Path) -> None:
    """Half of it, at the end of a line where it has several."""
    data = path.read_bytes()
    half = data[: len(data) // 2]
    path.write_bytes(half[: half.rfind(b"\n") + 1] or half)


def _zeros(path: Path) -> None:
    """A block of zeros, as a file system leaves it after a power cut."""
    data = path.read_bytes()
    third = len(data) // 3
    path.write_bytes(data[:third] + bytes(third) + data[2 * third :])


def _twice(path: Path) -> None:
    """Its last line is there twice."""
    data = path.read_bytes()
    path.write_bytes(data + data.rstrip(b"\n").rpartition(b"\n")[2] + b"\n")


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _folder_gone(path: Path) -> None:
    shutil.rmtree(path.parent)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "edited": _edit,
    "gone": _gone,
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": _zeros,
    "garbage": lambda path: path.write_bytes(os.urandom(2000)),
    "last line twice": _twice,
    "a folder": _folder,
    "a pipe": _pipe,
    "a loop of links": _loop,
    "its folder gone": _folder_gone,
}
SMALL = (
    "seeds=1", "dataset.split_column=none", "dataset.validation_fraction=0.01", "training.budget.steps=4",
    "training.save_steps=4", "training.eval_steps=4", "training.logging_steps=2", "training.effective_batch_size=4",
    "generation.max_new_tokens=12", "generation.max_rows=14", "generation.batch_invariance=2",
    "benchmarks.primary.problems=8", "training.workers=1",
)  # fmt: skip
"""What makes `kiyas demo` a matter of seconds."""


def demo(run: Path) -> list[str]:
    return ["demo", "--runs", str(run.parent), *SMALL]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "report": lambda run: ["report", str(run), "--text"],
    "status": lambda run: ["status", str(run)],
    "compare": lambda run: ["compare", str(run)],
    "verify": lambda run: ["verify", str(run)],
    "run": demo,
}


@dataclass(frozen=True)
class Said:
    """What a command said: its exit code, and both streams, with the run folder's own path as RUN."""

    code: int
    out: str
    err: str


def call(arguments: list[str], run: Path) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    return Said(code, *(stream.getvalue().replace(str(run), "RUN") for stream in (out, err)))


def situations() -> Iterator[tuple[str, str]]:
    """Every file with everything that may happen to it."""
    for file in FILES:
        for damage in DAMAGES:
            if damage == "its folder gone" and "/" not in file:
                continue
            yield file, damage


def outcome(whole: dict[str, Said], run: Path, file: str, damage: str, command: str) -> tuple[str, Said]:
    """Damages a copy and gives the command: "right", "refused", or what is wrong about it."""
    DAMAGES[damage](run / file)
    before = _costly(run)
    said = call(COMMANDS[command](run), run)
    if said.code and _costly(run) != before:
        return "refused, and touched what is costly", said
    text = said.err + said.out
    if "Traceback" in text or said.code == 2:
        return "traceback", said
    if said.code == 0:
        if command == "verify":
            fine = file == "report/report.md" or (file.startswith("report/") and "not finished: report" in said.out)
            return ("right" if fine else "silent"), said
        if command == "status" and file.startswith("report/"):  # what is gone of a report is said, not refused
            return ("right" if _conclusion(whole[command].out) in said.out else "wrong"), said
        return ("right" if said.out == whole[command].out else "silent"), said
    named = file in text or (damage == "its folder gone" and str(Path(file).parent) in text)
    if not named:
        return "refused, but not by name", said
    if "hint: " not in text:
        return "refused without a remedy", said
    maker = FILES[file]
    if maker is not None and f"--redo {maker}" not in text:
        return "refused with another stage's remedy", said
    if maker is None and file == "resolved.json" and "--restore" not in text:
        return "refused without the way to restore it", said
    if command != "verify" and command != "status" and len(said.err.strip().splitlines()) > 2:
        return "refused in many lines", said
    return "refused", said


def _costly(run: Path) -> dict[str, int]:
    """What takes hours to make, by name: its size."""
    found = (path for stage in ("data", "train", "generate", "judge") for path in (run / stage).rglob("*"))
    return {str(path): path.lstat().st_size for path in found}


def _conclusion(out: str) -> str:
    """What `status` says of the findings."""
    return out.partition("\n\n")[2].partition("\nreport: ")[0]


def findings(run: Path) -> Any:
    """All but what is a matter of the clock."""
    found = read_sealed(run / "analyse" / "findings.json")
    assert found["format"] == FORMAT
    return {key: value for key, value in found.items() if key not in ("created", "settings")}
