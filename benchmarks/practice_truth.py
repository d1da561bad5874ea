"""Real small studies in the practice world, where the truth is known: does the conclusion say it?

    python benchmarks/practice_truth.py [--studies 10] [--steps 120] [--problems 300]

Two kinds, each with its own seeds. *Nothing*: both arms are random halves of the same data, drawn anew for every seed,
so there is no difference to find. *Wrong*: one arm has 40 % of its training answers from other problems, and must lose.
Each study trains, answers and judges for real: 3 seeds, 120 steps, 300 problems; about a minute on two cores. Exit code
1 where a study of *wrong* is not decided for the right arm, or more than one in ten finds something in *nothing*.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from kiyas.analyse import Decision, analyse
from kiyas.pipeline import stages
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study

HALF = {"from": "whole", "fraction": 0.5, "draws": 3}
KINDS = {
    "nothing": {"whole": {"dataset_name": "practice/diverse"}, "a": HALF, "b": HALF},
    "wrong": {"a": {"dataset_name": "practice/wrong"}, "b": {"dataset_name": "practice/diverse"}},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10, help="of each kind (default: 10)")
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps per training (default: 120)")
    parser.add_argument("--problems", type=int, default=300, help="problems of the benchmark (default: 300)")
    args = parser.parse_args()
    print("| kind | seeds | difference | 95 % interval | says |\n|---|---|---|---|---|")
    decided = dict.fromkeys(KINDS, 0)
    right = 0
    for number in range(args.studies):
        for kind, arms in KINDS.items():
            seeds = [3 * number + i for i in range(3)]
            study = Study.model_validate(
                {
                    "name": kind,
                    "model_name_or_path": "practice",
                    "arms": arms,
                    "seeds": seeds,
                    "training": {
                        "budget": {"steps": args.steps},
                        "learning_rate": 1e-2,
                        "save_steps": args.steps,
                        "eval_steps": args.steps,
                    },
                    "generation": {"max_new_tokens": 160},
                    "benchmarks": {"primary": {"dataset": "practice", "problems": args.problems}},
                    "compare": {"primary": ["a", "b"]},
                }
            )
            with tempfile.TemporaryDirectory() as folder:
                stages.run(study, RunDir(Path(folder) / kind), until=Stage.JUDGE)
                found = analyse(Path(folder) / kind).primary
            assert found is not None
            decided[kind] += found.decision in (Decision.MORE, Decision.LESS)
            right += kind == "wrong" and found.decision is Decision.MORE
            low, high = 100 * found.interval.low, 100 * found.interval.high
            told = f"{100 * found.difference:+.1f} | {low:+.1f} to {high:+.1f} | {found.decision.value}"
            print(f"| {kind} | {seeds[0]}–{seeds[-1]} | {told} |", flush=True)
    print(
        f"\nnothing: {decided['nothing']} of {args.studies} decided; wrong: {right} of {args.studies} for the right arm"
    )
    return 0 if right == args.studies and decided["nothing"] <= max(1, args.studies // 10) else 1


if __name__ == "__main__":
    sys.exit(main())
