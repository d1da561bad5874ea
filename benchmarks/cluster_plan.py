"""The formulas of `kiyas check --cluster` against small studies that are really run on this machine.

    python benchmarks/cluster_plan.py [--width 256] [--repeat 3] [--only steps-x4 …]

The base has random weights; the plan is given how long its answers were. Five small runs calibrate: what starting a
stage takes, and the seconds of a token that is trained on, validated with, read as a prompt, and answered. From these
the plan predicts larger runs: other numbers of steps, trainings, problems, samples, tokens and programs, two workers,
and a base of another shape, whose seconds are computed from its weights as for a card. Runs alternate; of each the
fastest counts.

Seconds are those of the processor, of the longest worker: other work on the machine does not count. Exit code 1: a time
is more than a quarter off.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

WITHIN = 0.25
JUDGED = (20, 200, 1600)
"""programs: two numbers calibrate, the third is predicted"""
ROWS = 24
"""of each arm"""


@dataclass(frozen=True)
class Run:
    """One study."""

    steps: int = 1
    eval_steps: int = 1000
    seeds: int = 1
    workers: int = 1
    problems: int = 1
    samples: int = 1
    tokens: int = 4
    base: str = "base"


SMALL = Run(steps=8, problems=12, tokens=32)
CALIBRATION = {
    "least": Run(),
    "steps": replace(SMALL, problems=1, tokens=4),
    "validation": replace(SMALL, eval_steps=2, problems=1, tokens=4),
    "prompts": replace(SMALL, steps=1, tokens=4),
    "tokens": replace(SMALL, steps=1),
}
PREDICTED = {
    "all": SMALL,
    "steps-x4": replace(SMALL, steps=32),
    "seeds-x3": replace(SMALL, seeds=3),
    "problems-x3": replace(SMALL, problems=36),
    "samples-x4": replace(SMALL, samples=4),
    "answers-x3": replace(SMALL, tokens=96),
    "two-workers": replace(SMALL, seeds=4, workers=2),
    "other-shape": replace(SMALL, base="other"),
}


# -- one run ----------------------------------------------------------------------------------------------------------


def study(run: Run, folder: Path) -> Any:
    from kiyas.study.settings import Study

    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(folder / run.base),
            "arms": {name: {"dataset_name": str(folder / f"{name}.jsonl")} for name in ("deep", "diverse")},
            "dataset": {"group_by": "group", "split_column": "none", "validation_fraction": 0.2},
            "seeds": run.seeds,
            "training": {
                "budget": {"steps": run.steps},
                "effective_batch_size": 4,
                "learning_rate": 1e-6,
                "save_steps": 1000,
                "eval_steps": run.eval_steps,
                "workers": run.workers,
                "device": "cpu",
            },
            "benchmarks": {"primary": {"dataset": "practice", "problems": run.problems}},
            "generation": {
                "num_samples": run.samples,
                "temperature": 0.8 if run.samples > 1 else 0.0,
                "max_new_tokens": run.tokens,
                "max_rows": 8,
                "batch_invariance": 0,
            },
            "judge": {"isolation": "best"},
        }
    )


class Spent:
    """Seconds of the processor that this process, or the longest of its workers, takes inside."""

    def __enter__(self) -> Spent:
        self.own, self.children, self.ended = time.process_time(), dict[int, float](), threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                try:
                    # Workers are forked from a process of their own, which has loaded torch.
                    if child.ppid() != os.getpid():
                        times = child.cpu_times()
                        self.children[child.pid] = times.user + times.system
                except psutil.Error:
                    continue

    def __exit__(self, *_: object) -> None:
        own = time.process_time() - self.own
        self.ended.set()
        self.watcher.join()
        self.seconds = own + max(self.children.values(), default=0.0)


def measured(run: Run, folder: Path) -> dict[str, Any]:
    """What the stages took, and what the plan counts of the work."""
    from kiyas.check import costs
    from kiyas.pipeline import stages
    from kiyas.pipeline.prepare import prepare
    from kiyas.runfolder.files import read_jsonl
    from kiyas.runfolder.paths import RunDir, Stage

    asked, found = study(run, folder), dict[str, Any]()
    prepared = prepare(asked)
    work = costs.work_of(asked, prepared, prepared.steps(asked), prepared.chat)
    found["trainings"], found["answers"], found["prompt_tokens"] = work.each_training, work.answers, work.prompt_tokens
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        into = RunDir(Path(runs) / "t")
        for stage in (Stage.DATA, Stage.TRAIN, Stage.GENERATE):
            with Spent() as spent:
                stages.run(asked, into, until=stage)
            found[stage.value] = spent.seconds
        # Of a base that knows nothing, some answers end early.
        found["tokens"] = sum(row["tokens"] for row in read_jsonl(into.completions))
    return found


def judged(programs: int, folder: Path) -> tuple[float, int]:
    """Seconds of the processor for so many trivial programs, and the tests that they were run on."""
    from kiyas import judge, practice
    from kiyas.judging.stage import verdicts

    def spent() -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime

    known = [judge.problem_from_row(row, "kiyas") for row in practice.benchmark(40)]
    asked = [(known[i % len(known)].id, f"pass  # {i}") for i in range(programs)]
    before = spent()
    tests = sum(verdict.total for verdict in verdicts(asked, known, study(Run(), folder).judge))
    return spent() - before, tests


# -- prediction -------------------------------------------------------------------------------------------------------


def make_base(folder: Path, width: int, layers: int) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from kiyas import practice

    config = AutoConfig.from_pretrained(practice.base_path())
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    for name, value in {**shape, "layer_types": ["full_attention"] * layers}.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for path in practice.base_path().iterdir():
        if path.name.startswith(("token", "chat", "special")):
            shutil.copy(path, folder)


def tokens_of(found: dict[str, Any], what: str) -> float:
    return sum(getattr(each, what) for each in found["trainings"])


def predictor(found: dict[str, dict[str, Any]], folder: Path) -> Any:
    """From the calibrating runs: the seconds of the stages of another run."""
    from kiyas.check.cards import Speed
    from kiyas.check.cluster import Load, Pool, plan
    from kiyas.check.costs import STARTUP_S
    from kiyas.model.meter import empty_model

    least, steps, validation, prompts, tokens = (found[name] for name in CALIBRATION)
    train = (steps["train"] - least["train"]) / (tokens_of(steps, "tokens") - tokens_of(least, "tokens"))
    forward = (validation["train"] - steps["train"]) / (
        tokens_of(validation, "validated") - tokens_of(steps, "validated")
    )
    more = prompts["answers"] - least["answers"]
    step = (tokens["generate"] - prompts["generate"]) / (tokens["tokens"] - prompts["tokens"])
    longer = prompts["generate"] - least["generate"] - (prompts["tokens"] - least["tokens"]) * step
    prefill = max(0.0, longer) / (more * prompts["prompt_tokens"])
    speed = Speed(train, forward, prefill, step)
    fixed = (
        least["train"] - tokens_of(least, "tokens") * train - tokens_of(least, "validated") * forward,
        least["generate"] - least["answers"] * least["prompt_tokens"] * prefill - least["tokens"] * step,
    )
    print(
        f"calibrated: {1e6 * train:.1f} µs a token trained on, {1e6 * forward:.1f} forward, {1e6 * prefill:.1f} of a "
        f"prompt, {1e6 * step:.1f} of an answer; starting {fixed[0]:.1f} s and {fixed[1]:.1f} s"
    )

    def weights(base: str) -> int:
        return sum(parameter.numel() for parameter in empty_model(folder / base).parameters())

    def predicted(run: Run, counted: dict[str, Any]) -> tuple[float, float]:
        own = speed
        if run.base != "base":
            # As for a card: time by weights, at the rate that this machine showed on the first base.
            ratio = weights(run.base) / weights("base")
            own = Speed(*(ratio * seconds for seconds in asdict(speed).values()))
        load = Load(
            trainings=counted["trainings"],
            answers=counted["answers"],
            prompt_tokens=counted["prompt_tokens"],
            answer_tokens=counted["tokens"] / counted["answers"],
            judge_s=None,
        )
        made = plan(load, [Pool(run.workers, own, len(load.trainings), 8)])
        starting = STARTUP_S if run.workers > 1 else 0.0
        return starting + fixed[0] + made.train.wall_s, starting + fixed[1] + made.generate.wall_s

    return predicted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256, help="of the base")
    parser.add_argument("--repeat", type=int, default=3, help="times that each study is run")
    parser.add_argument("--only", nargs="+", choices=PREDICTED, default=list(PREDICTED), help="which predictions")
    args = parser.parse_args()
    import torch

    from kiyas import practice

    torch.set_num_threads(1)
    wanted = {**CALIBRATION, **{name: PREDICTED[name] for name in args.only}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder / "base", args.width, 4)
        make_base(folder / "other", args.width, 8)  # below the size from which a CPU plans its memory
        for arm in ("deep", "diverse"):
            rows = practice.dataset(arm)[:ROWS]
            (folder / f"{arm}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        measured(CALIBRATION["least"], folder)  # warms up
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
        judging: dict[int, list[tuple[float, int]]] = {programs: [] for programs in JUDGED}
        for _ in range(args.repeat):
            for name, run in wanted.items():
                runs[name].append(made := measured(run, folder))
                print(f"{name:24} train {made['train']:6.2f} s, generate {made['generate']:6.2f} s", flush=True)
            for programs in JUDGED:
                judging[programs].append(judged(programs, folder))
        found = {
            name: {
                **made[0],
                **{stage: min(each[stage] for each in made) for stage in ("train", "generate")},
            }
            for name, made in runs.items()
        }
        predicted, worst = predictor(found, folder), 0.0
        few, some, many = (min(made) for made in judging.values())
        each = (some[0] - few[0]) / (some[1] - few[1])
        seconds = some[0] + each * (many[1] - some[1])
        print(
            f"{'programs-x8':24} judge     predicted {seconds:6.1f} s, took {many[0]:6.1f} s: {seconds / many[0]:.2f}"
        )
        worst = max(worst, abs(seconds / many[0] - 1))
        for name in args.only:
            for stage, seconds in zip(("train", "generate"), predicted(wanted[name], found[name]), strict=True):
                took = found[name][stage]
                worst = max(worst, abs(seconds / took - 1))
                print(f"{name:24} {stage:9} predicted {seconds:6.1f} s, took {took:6.1f} s: {seconds / took:.2f}")
    print(f"at most {worst:.0%} off")
    return int(worst > WITHIN)


if __name__ == "__main__":
    sys.exit(main())
