"""Would the tests notice a mistake? Mutants of the pure files (cosmic-ray), each against the few tests of its file.

    python scripts/mutants.py [--n 25 | --n all] [--seed 0] [NAME ...]

By default a random sample of every file; NAME (a key of TARGETS) limits it. Everything happens in a temporary copy, so
that the sources are never touched. Stop at any time: killed mutants are remembered under build/mutants for as long as
their file does not change, survivors are tried again. Mutants that change nothing that matters are listed in
mutants_accepted.toml, with the reason. Exits with 1 where less than 90 % of the others are killed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
ACCEPTED = Path(__file__).with_name("mutants_accepted.toml")
ENOUGH = 0.9
# name → (source below src/kiyas, a file or a folder; arguments of pytest). Simulations are left out: they are slow.
TARGETS = {
    "inference": (
        "stats/inference.py",
        "tests/stats/test_inference.py -k 'not several_answers and not cover_the_truth'",
    ),
    "random_effects": (
        "stats/random_effects.py",
        "tests/stats/test_random_effects.py -k 'not keeps_its_level and not false_claim and not seldom'",
    ),
    "planning": ("stats/planning.py", "tests/stats/test_planning.py -k 'not four_times'"),
    "claims": ("analyse/claims.py", "tests/analyse/test_claims.py tests/analyse/test_grid.py"),
    "meta_analysis": ("stats/meta_analysis.py", "tests/stats/test_meta_analysis.py -k 'not coverage'"),
    "contrasts": ("analyse/contrasts.py", "tests/analyse/test_contrasts.py"),
    "decisions": ("analyse/decisions.py", "tests/analyse/test_contrasts.py"),
    "selection": ("analyse/selection.py", "tests/analyse/test_contrasts.py tests/analyse/test_grid.py"),
    "losses": ("analyse/losses.py", "tests/analyse/test_losses.py"),
    "compare": ("judge/compare.py", "tests/judge/test_judge_compare.py"),
    "extract": ("judge/extract.py", "tests/judge/test_judge_extract.py"),
    "rows": ("judge/rows.py", "tests/judge/test_judge_rows.py tests/judge/test_judge_formats.py"),
    "programs": ("judge/programs.py", "tests/judge/test_judge_rows.py tests/judge/test_judge_formats.py"),
    "formats": ("judge/formats", "tests/judge/test_judge_rows.py tests/judge/test_judge_formats.py"),
    "batches": ("model/batches.py", "tests/model/test_batches.py"),
    "arms": ("data/arms.py", "tests/data/test_arm_rules.py tests/data/test_arms.py"),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TARGETS)}; all without one")
    parser.add_argument("--n", default="25", help="mutants a file, or all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    if unknown := set(options.names) - TARGETS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(TARGETS)}")
    most = None if options.n == "all" else int(options.n)
    accepted = {(a["file"], a["line"], each): a["why"] for a in _accepted() for each in a["becomes"]}
    killed = tried = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as tree:
        _copy(Path(tree))
        for name in options.names or TARGETS:
            dead, alive, equivalent = _attack(name, most, options.seed, accepted)
            killed, tried = killed + dead, tried + dead + len(alive)
            print(f"{name}: {dead} of {dead + len(alive)} killed, {equivalent} accepted", *alive, sep="\n", flush=True)
    share = killed / tried if tried else 1.0
    print(f"all: {killed} of {tried} killed ({share:.0%})")
    return 0 if share >= ENOUGH else 1


def _accepted() -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads(ACCEPTED.read_text(encoding="utf-8")).get("accepted", [])
    return found


def _copy(tree: Path) -> None:
    """Everything from here on happens in the copy: paths are relative to it."""
    WORK.mkdir(parents=True, exist_ok=True)
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    os.chdir(tree)
    # CI: hypothesis then draws the same examples every time and keeps none.
    os.environ |= {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "CI": "1"}


def _sources(name: str) -> list[Path]:
    place = Path("src/kiyas") / TARGETS[name][0]
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def _attack(
    name: str, most: int | None, seed: int, accepted: dict[tuple[str, str, str], str]
) -> tuple[int, list[str], int]:
    """(killed, descriptions of survivors, accepted). Raises SystemExit where the tests fail without any mutant."""
    sources = {path: path.read_text(encoding="utf-8") for path in _sources(name)}
    content = hashlib.sha256("\0".join(sources.values()).encode()).hexdigest()[:12]
    # -x: one failure is enough; a mutant may loop for ever, so that the time limit goes by the run without any.
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -m 'not slow' {TARGETS[name][1]}"
    started = time.monotonic()
    outcome, output = run_tests(command, 600)
    if outcome is not TestOutcome.SURVIVED:
        raise SystemExit(f"{name}: the tests fail without any mutant\n{output}")
    limit = 10 + 4 * (time.monotonic() - started)

    dead, alive, equivalent = 0, list[str](), 0
    unread = {path: _annotations(text) for path, text in sources.items()}
    with use_db(str(WORK / f"{name}-{content}.sqlite"), WorkDB.Mode.create) as db:
        if not db.num_work_items:
            init(sorted(sources), db, {})
        results = dict(db.results)
        mutants = [item for item in db.work_items if not unread[item.mutations[0].module_path](item.mutations[0])]
        mutants.sort(key=lambda item: _key(item.mutations[0]))
        random.Random(f"{seed} {name}").shuffle(mutants)
        for item in mutants[:most]:
            spec = item.mutations[0]
            was, becomes = _lines(sources[spec.module_path], spec)
            if (str(spec.module_path.relative_to("src/kiyas")), was, becomes) in accepted:
                equivalent += 1
                continue
            if item.job_id not in results or not results[item.job_id].is_killed:
                results[item.job_id] = _tried(item, command, limit)
                db.set_result(item.job_id, results[item.job_id])
            if results[item.job_id].is_killed:
                dead += 1
            else:
                alive.append(f"  {spec.module_path}:{spec.start_pos[0]}\n    {was}\n    {becomes}")
    return dead, alive, equivalent


def _tried(item: WorkItem, command: str, limit: float) -> WorkResult:
    result = mutate_and_test(item.mutations, command, limit)
    if result.worker_outcome is not WorkerOutcome.NORMAL:
        raise SystemExit(f"{item.mutations[0]}: could not be tried\n{result.output}")
    return result


def _key(spec: MutationSpec) -> tuple[str, str, int]:
    return str(spec.module_path), spec.operator_name, spec.occurrence


def _lines(source: str, spec: MutationSpec) -> tuple[str, str]:
    """The line without and with the mutation; with nothing where it is taken out."""
    mutated = mutate_code(source, get_operator(spec.operator_name)(**spec.operator_args), spec.occurrence)
    before, after, line = source.splitlines(), mutated.splitlines(), spec.start_pos[0] - 1
    return before[line].strip(), after[line].strip() if len(after) == len(before) else ""


def _annotations(source: str) -> Callable[[MutationSpec], bool]:
    """Whether a mutation lies in an annotation, which nobody evaluates."""
    nodes = list(ast.walk(ast.parse(source)))
    kept = [n.annotation for n in nodes if isinstance(n, ast.arg | ast.AnnAssign) and n.annotation]
    kept += [n.returns for n in nodes if isinstance(n, ast.FunctionDef) and n.returns]
    spans = [((n.lineno, n.col_offset), (n.end_lineno or 0, n.end_col_offset or 0)) for n in kept]
    return lambda spec: any(low <= spec.start_pos < high for low, high in spans)


if __name__ == "__main__":
    sys.exit(main())
