"""Large data: seconds and peak memory of `kiyas check` and of the data stage, and what becomes of absurd files.

    python benchmarks/large_data.py [--rows 500000] [--base FOLDER] [--verbs check data] [--keep FOLDER]
    python benchmarks/large_data.py --bombs

Two made-up arms of `--rows` rows of about 1,300 characters: `many` has five solutions of each problem, `single` one.
Every verb runs in a process of its own, so that its peak is its own. `--rows 2000000` makes 5 GB.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

NOUNS = (
    "array list grid string graph tree node edge path city road train ticket player score card deck coin box shelf book "
    "letter word digit number prime factor divisor matrix row column cell robot island bridge river farm field garden "
    "flower seed animal cat dog bird fish student teacher class exam mark question answer message packet server client "
    "cache queue stack heap segment interval point line circle angle square triangle cube tower block level floor room "
    "door key lock lamp switch button clock minute hour day week month year price cost budget order item basket store"
).split()
VERBS = (
    "count find print compute choose remove insert replace reverse sort merge split move swap paint connect visit reach "
    "cover minimise maximise distribute collect open close buy sell share compare encode decode search"
).split()
SMALL = "the a of in to for with from each every any two three first last largest smallest given such that if is are".split()
NAMES = (
    "n m k a b c i j x y left right total best count seen graph node queue value limit answer rows text words".split()
)
LINES = (
    "    {a} = list(map(int, input().split()))",
    "    {a} = sorted(set({b}), reverse=True)",
    "    for {a} in range({n}, {b} + 1):\n        {c} += {a} * {n}",
    "    while {a} < len({b}):\n        {a} += {n}",
    "    if {a} > {b} and {c} != {n}:\n        {a}, {b} = {b}, ({a} + {c}) % {m}",
    "    {a} = max({a}, {b} - {n})",
    "    {c} = [{a} * {n} for {a} in {b} if {a} % {m} == 0]",
    "    {a} = {{{b}: {c} for {b} in range({n})}}",
    "    {a} = sum({b} // {n} for {b} in {c})",
    "    # the {noun} is kept while the {noun2} changes",
)


def prompt(dice: random.Random) -> str:
    """A statement of some 500 characters."""
    sentences = []
    for _ in range(dice.randint(4, 7)):
        words = [dice.choice(VERBS).title()]
        for _ in range(dice.randint(9, 15)):
            words.append(dice.choice(SMALL if dice.random() < 0.45 else NOUNS))
        sentences.append(" ".join(words) + ".")
    most = dice.randint(2, 10**6)
    return (
        f"{' '.join(sentences)}\n\nInput\nThe first line has one integer n (1 <= n <= {most}). The second line has n "
        f"integers.\n\nOutput\nPrint one integer: the {dice.choice(NOUNS)}."
    )


def completion(dice: random.Random) -> str:
    """A sentence or two and a program of some 600 characters in a fence."""
    names = dice.sample(NAMES, 6)
    lines = [f"def solve_{dice.choice(NOUNS)}({names[0]}, {names[1]}):"]
    for _ in range(dice.randint(9, 14)):
        a, b, c = dice.sample(names, 3)
        line = dice.choice(LINES).format(
            a=a, b=b, c=c, n=dice.randint(1, 99), m=dice.randint(2, 10**4), noun=dice.choice(NOUNS),
            noun2=dice.choice(NOUNS),
        )  # fmt: skip
        lines.append(line)
    lines += [
        f"    return {names[2]}",
        "",
        "",
        f"print({lines[0][4:].split('(')[0]}(int(input()), {dice.randint(1, 9)}))",
    ]
    said = " ".join(dice.choice(NOUNS if dice.random() < 0.5 else SMALL) for _ in range(dice.randint(12, 24)))
    return f"We {dice.choice(VERBS)} the {said}.\n\n```python\n" + "\n".join(lines) + "\n```\n"


def write_arm(path: Path, rows: int, solutions: int, seed: int) -> None:
    """`rows` rows, `solutions` of each problem; one row in a hundred repeats another problem nearly."""
    dice, statement = random.Random(seed), ""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % solutions == 0:
                near = statement and dice.random() < 0.01
                statement = statement.replace(".", ";", 1) if near else prompt(dice)
            row = {"id": f"{seed}-{number}", "prompt": statement, "completion": completion(dice)}
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    write_arm(given.keep / "many.jsonl", given.rows, 5, 1)
    write_arm(given.keep / "single.jsonl", given.rows, 1, 2)


if __name__ == "__main__":
    main()
