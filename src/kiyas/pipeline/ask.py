"""`kiyas ask`: the base and the arms of a finished run answer one problem side by side.

They are asked as in the study: its system prompt, its chat, its limits; each arm by the checkpoint that represents it.
Programs run on the tests of the problem's row, or on the samples in its statement, in the judge's sandbox. Nothing is
written into the run folder, and nothing follows for the arms from one problem.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from kiyas import judge
from kiyas.analyse.chosen import Finished
from kiyas.data import samples
from kiyas.data.benchmarks import question
from kiyas.data.chat import Chat
from kiyas.data.hub import base_folder
from kiyas.judge import Problem
from kiyas.judge.programs import found_in
from kiyas.judge.pulse import on_screen
from kiyas.judge.rows import located
from kiyas.judge.terminal import many, printable
from kiyas.judge.tiers import choose
from kiyas.judge.types import Extraction, Isolation, Outcome, Tier, Verdict
from kiyas.judging.stage import check_ready, prove, verdicts
from kiyas.pipeline.identity import refuse_missing_packages, same_base
from kiyas.pipeline.prepare import longest_text
from kiyas.runfolder.manifests import CHECKPOINTS, refuse
from kiyas.runfolder.paths import RunDir
from kiyas.study import limits
from kiyas.study.settings import MOST, Study
from kiyas.types import BASE, AdapterId, Completion, KiyasError
from kiyas.work.console import plain_console, printed, safe
from kiyas.work.progress import bar, tell

ROWS = re.compile(r"\s*(\{\s*\"|\[\s*\{)")
"""how JSON rows begin, and no statement"""
INDENT = "    "


@dataclass(frozen=True)
class Answer:
    """One answer, the program in it, and what became of that; no verdict where nothing was run."""

    completion: Completion
    extraction: Extraction
    verdict: Verdict | None

    def to_json(self) -> dict[str, Any]:
        own = self.extraction
        return {
            **self.completion.to_row(),
            "program": own.program,
            "extraction": {"method": own.method, "reason": own.reason},
            **({} if self.verdict is None else self.verdict.to_row()),
        }


@dataclass(frozen=True)
class Asked:
    """A problem, and what the base and the arms made of it."""

    run: str
    problem: Problem
    tests_from: str
    """row, statement or none"""
    not_run: str
    """why no program was run; "": they were"""
    tier: Tier | None
    problems: int
    """of the study's benchmark"""
    answers: tuple[Answer, ...]

    @property
    def note(self) -> str:
        return (
            f"One problem decides nothing about the arms: for all {many(self.problems, 'problem')} of the study see "
            f"`kiyas report {self.run}`."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "problem": {"id": self.problem.id, "title": self.problem.title, "tests": self.problem.total},
            "tests_from": self.tests_from,
            "not_run": self.not_run or None,
            "isolation": self.tier,
            "answers": [each.to_json() for each in self.answers],
            "note": self.note,
        }

    def text(self, width: int) -> str:
        """For a terminal: the table, then each program once, under who wrote it."""
        console = plain_console(width, color=False)
        console.print(Text(safe(self._head())))
        console.print(self._table())
        return printable(printed(console) + "\n".join([*self._shown(width), *_folded(self.note, width), ""]))

    def _head(self) -> str:
        if self.not_run:
            return f"{self.not_run}: no program was run"
        if self.tests_from == "row":
            what = f"{self.problem.title or self.problem.id}: {many(self.problem.total, 'test')} of its row"
        elif self.problem.test_code is not None:
            what = "the examples in the statement"
        else:
            what = f"{many(self.problem.total, 'sample')} in the statement"
        return f"{what}, run in {self.tier} isolation"

    def _by_adapter(self) -> list[tuple[AdapterId, list[Answer]]]:
        ids = dict.fromkeys(each.completion.adapter for each in self.answers)
        return [(id, [each for each in self.answers if each.completion.adapter == id]) for id in ids]

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        run = not self.not_run
        for title in ("", "seed", "step", *(("right", "verdicts", "tests passed") if run else ("answers", "tokens"))):
            table.add_column(title, justify="left" if title in ("", "verdicts") else "right", overflow="fold")
        for id, given in self._by_adapter():
            cells = ["base", "", ""] if id.is_base else [f"{id.arm} {id.variant}".strip(), str(id.seed), str(id.step)]
            judged = [each.verdict for each in given if each.verdict is not None]
            if run:
                right = sum(each.accepted for each in judged)
                counts = Counter(each.verdict.value for each in judged)
                passed = ", ".join(dict.fromkeys(f"{each.passed}/{each.total}" for each in judged))
                cells += [f"{right} of {len(judged)}", ", ".join(f"{k} {n}" for k, n in counts.most_common()), passed]
            else:
                tokens = ", ".join(str(each.completion.tokens) for each in given)
                cells += [str(len(given)), tokens]
            table.add_row(*(Text(safe(cell)) for cell in cells))
        return table

    def _shown(self, width: int) -> Iterable[str]:
        """Each program once, whoever wrote it; where nothing was run, the whole answers."""
        same: dict[tuple[str, str], list[Answer]] = {}
        for each in self.answers:
            text = "" if self.not_run else each.extraction.program
            same.setdefault((text or each.completion.text, _verdict(each)), []).append(each)
        of_each = Counter(each.completion.adapter for each in self.answers)
        for (text, verdict), answers in same.items():
            counts = Counter(each.completion.adapter for each in answers)
            who = (f"{_name(id)}{f' {n} of {of_each[id]}' if of_each[id] > 1 else ''}" for id, n in counts.items())
            yield from _folded(f"{verdict}{': ' if verdict else ''}{', '.join(who)}", width)
            lines = text.expandtabs(4).splitlines() or ["(an empty answer)"]
            yield from (INDENT + part for line in lines for part in _parts(line, width - len(INDENT)))
            yield ""


def _name(id: AdapterId) -> str:
    """As --arm takes it."""
    return "base" if id.is_base else safe(f"{id.arm}@{id.seed}")


def _verdict(answer: Answer) -> str:
    """What became of an answer, in words; "": nothing was run."""
    cut = " (cut at max_new_tokens)" if answer.completion.stop == "length" else ""
    found = answer.verdict
    if found is None:
        return cut.strip()
    detail = safe(found.detail)
    if not answer.extraction.program:
        detail = f"no program in the answer: {safe(answer.extraction.reason)}"
    return f"{found.verdict}{f' ({detail})' if detail else ''}{cut}"


def _folded(text: str, width: int) -> list[str]:
    """A sentence on as many lines as it takes."""
    lines = [""]
    for word in text.split():
        for part in _parts(word, width):
            if lines[-1] and len(lines[-1]) + 1 + len(part) > width:
                lines.append("")
            lines[-1] += f"{' ' if lines[-1] else ''}{part}"
    return lines


def _parts(line: str, width: int) -> list[str]:
    return [line[start : start + width] for start in range(0, len(line), max(1, width))] or [""]


# -- the problem ------------------------------------------------------------------------------------------------------


def read_problem(data: bytes, source: str, wanted: str | None = None) -> tuple[Problem, str]:
    """A statement, or a row in any format that the judge reads; and where its tests are from: row, statement or none.

    `wanted`: the id of the problem among several rows. Raises KiyasError or JudgeError, with what to give.
    """
    limits.ROW.refuse_above(len(data), source)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KiyasError(
            f"{source} is not text: {error.reason} at byte {error.start}",
            "give the statement as a text file in UTF-8, or a problem as a JSON row",
        ) from None
    if "\0" in text:
        raise KiyasError(f"{source} is not text: it has a NUL byte", "give a statement, or a problem as a JSON row")
    if not text.strip():
        raise KiyasError(f"{source} is empty", "give a statement, or a problem as a JSON row")
    if not ROWS.match(text):
        if wanted is not None:
            raise KiyasError(f"--problem {wanted}: {source} is a statement, not rows", "leave --problem out")
        limits.TEXT.refuse_above(len(text), source)
        problem = samples.problem_of(text.strip(), f"asked-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
        return problem, "statement" if problem.total else "none"
    problem, tests_from = _of_rows(text, source, wanted)
    if not question(problem.to_row() | {"statement": problem.statement}).strip():
        raise KiyasError(f"{source}: problem {problem.id} has no statement", "add it to the row as `statement`")
    return problem, tests_from


def _of_rows(text: str, source: str, wanted: str | None) -> tuple[Problem, str]:
    found = []
    for number, (line, row) in enumerate(_rows(text, source)):
        with located(source, line):
            found.append(_of_row(row, number))
    named = [each for each in found if wanted is None or each[0].id == wanted]
    ids = ", ".join(problem.id for problem, _ in found[:5]) + (", …" if len(found) > 5 else "")
    if not named:
        raise KiyasError(f"{source} has no problem {wanted!r}", f"it has {ids}")
    if len(named) > 1:
        raise KiyasError(f"{source} has {len(named)} problems", f"name one of them: --problem ID ({ids})")
    return named[0]


def _of_row(row: dict[str, Any], number: int) -> tuple[Problem, str]:
    """As the judge reads it; a row with nothing but a statement has the samples in it."""
    if "statement" in row and row.keys() <= {"id", "title", "statement"} and isinstance(row["statement"], str):
        problem = samples.problem_of(row["statement"], str(row["id"]) if "id" in row else f"asked-{number + 1}")
        return problem, "statement" if problem.total else "none"
    return judge.problem_from_row(row, None, number), "row"


def _rows(text: str, source: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, row) of JSON lines, of one object, or of a list."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    rows = []
    if whole is not None:
        rows = [(0, each) for each in (whole if isinstance(whole, list) else [whole])]
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    rows.append((number, json.loads(line)))
                except (ValueError, RecursionError) as error:
                    raise KiyasError(
                        f"{source}:{number}: begins like JSON, but is not valid: {error!s:.200}",
                        "correct this line; if it is a statement, begin with a word",
                    ) from None
    for number, row in rows:
        if not isinstance(row, dict):
            raise KiyasError(f"{source}:{number}: expected a JSON object, found {type(row).__name__}", "give one row")
    return rows


# -- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """How somebody wants to ask."""

    arms: tuple[str, ...] = ()
    """ARM or ARM@SEED; none: all of them"""
    seed: int | None = None
    samples: int | None = None
    temperature: float | None = None
    isolation: str = Isolation.STRONG.value


def ask(folder: RunDir, problem: Problem, tests_from: str, wanted: Wanted) -> Asked:
    """Answers and verdicts. Raises KiyasError or JudgeError before the base is loaded where something does not fit.

    Raises SandboxError where a program could not be judged for the sandbox's sake.
    """
    run = Finished.read(folder)
    study = _as_asked(run, wanted)
    ids = [BASE, *(run.chosen(arm, seed=wanted.seed) for arm in wanted.arms or run.arms)]
    bare = {arm for arm, given in study.arms.items() if given.model is not None}
    refuse(folder, [f"{CHECKPOINTS}{each.folder}/" for each in ids if not each.is_base and each.arm not in bare])
    refuse_missing_packages(study)
    same_base(run.record, study, folder.root)
    tier, not_run = None, ""
    if problem.total:
        tier = choose(wanted.isolation, study.judge.python)
        study = study.model_copy(update={"judge": study.judge.model_copy(update={"isolation": Isolation(tier)})})
        check_ready([problem], study.judge)
        for finding in prove([problem], study.judge, lambda done, total: None):
            if finding.refused:
                not_run = f"its tests cannot be used: {finding.reason}"
            else:
                tell(f"{problem.id}: {finding.reason}")
    else:
        not_run = "no samples were found in the statement"
    given = _answers(run, study, list(dict.fromkeys(ids)), problem)
    extracted = [(each, found_in(each.text, problem, study.judge.extraction)) for each in given]
    of_program = {} if not_run else _judged(problem, [found.program for _, found in extracted], study)
    answers = tuple(Answer(each, found, of_program.get(found.program)) for each, found in extracted)
    return Asked(
        str(folder.root), problem, tests_from, not_run, None if not_run else tier, len(run.loaded.problems), answers
    )


def _as_asked(run: Finished, wanted: Wanted) -> Study:
    """The study with the number of answers and the temperature that are wanted. Raises KiyasError for odd ones."""
    study, own = run.study, run.study.generation
    count = 1 if wanted.samples is None else wanted.samples
    temperature = own.temperature if wanted.temperature is None else wanted.temperature
    if not 1 <= count <= MOST:
        raise KiyasError(f"--samples {count}: must be 1 to {MOST:,}")
    if not 0 <= temperature <= 100:
        raise KiyasError(f"--temperature {temperature:g}: must be 0 to 100")
    if count > 1 and temperature == 0:
        raise KiyasError(
            f"--samples {count}: this study decodes greedily, so all answers of a model would be the same",
            "add --temperature 0.8, for example",
        )
    generation = own.model_copy(update={"num_samples": count, "temperature": temperature, "batch_invariance": 0})
    training = study.training.model_copy(
        update={"device": "auto", **({} if run.record.dtype is None else {"dtype": run.record.dtype})}
    )
    return study.model_copy(update={"generation": generation, "training": training})


def _answers(run: Finished, study: Study, ids: list[AdapterId], problem: Problem) -> list[Completion]:
    from kiyas.generate.stage import answers_to

    row = {**problem.to_row(), "statement": problem.statement}
    tokens = len(Chat.load(base_folder(study)).prompt_ids(question(row), study.dataset.system))
    if (most := longest_text(study)) and tokens > most:
        raise KiyasError(
            f"the statement makes a prompt of {tokens:,} tokens, but the base model's limit is {most:,}",
            "give a shorter one",
        )
    with bar("answer", len(ids) * study.generation.num_samples, "answers") as progress:
        return answers_to(run.folder, study, ids, row, progress.update)


def _judged(problem: Problem, programs: Iterable[str], study: Study) -> dict[str, Verdict]:
    """By program; each is run once. Raises SandboxError where the sandbox failed."""
    wanted = list(dict.fromkeys(programs))
    found = {}
    for verdict in verdicts(((problem.id, program) for program in wanted), [problem], study.judge):
        if verdict.verdict is Outcome.IE:
            raise judge.SandboxError(verdict.detail, "see `kiyas doctor`")
        found[verdict.program.source] = verdict
    return found


def read_source(path: Path) -> bytes:
    """A file that somebody gave. Raises KiyasError for what is none, and for one that is too large."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file" if not path.exists() else "not a regular file"
            raise KiyasError(
                f"{path}: {what}", "give a statement, or a problem as a JSON row; `-` reads standard input"
            )
        limits.ROW.refuse_above(path.stat().st_size, path)
        return path.read_bytes()
    except OSError as error:
        raise KiyasError(f"{path} cannot be read: {error.strerror or error}") from None


def read_typed() -> bytes:
    """What comes by standard input. Nothing is said while somebody types it; what is too large is not read on."""
    with contextlib.ExitStack() as stack:
        if sys.stdin.isatty():
            tell("the statement, or a problem as a JSON row; Ctrl-D ends it:")
            stack.enter_context(on_screen())
        return sys.stdin.buffer.read(limits.ROW.most + 1)
