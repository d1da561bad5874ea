"""Large data: seconds and peak memory of `kiyas check` and of the data stage, and what becomes of absurd files.

    python benchmarks/large_data.py [--rows 500000] [--base FOLDER] [--verbs data check] [--keep FOLDER]
    python benchmarks/large_data.py --bombs [--megabytes 500]

Two made-up arms of `--rows` rows of about 1,300 characters: `many` has five solutions of each problem, `single` one.
Every verb runs in a process of its own, so that its peak is its own; the largest of its workers is shown beside it.
`--rows 2000000` makes 5 GB. The practice base stands for any: its tokenizer costs as much as Qwen's.

`--bombs` writes files that are small and unpack to `--megabytes`, or are that large, and reads each: it must be refused
in words, or read, within 600 MB over what a small file takes.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kiyas import practice
from kiyas.data.arms import examples
from kiyas.data.row_files import read_rows
from kiyas.pipeline import stages
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Dataset, Study
from kiyas.types import KiyasError

NOUNS = (
    "array", "list", "grid", "string", "graph", "tree", "node", "edge", "path", "city", "road", "train", "ticket",
    "player", "score", "card", "deck", "coin", "box", "shelf", "book", "letter", "word", "digit", "number",
    "prime", "factor", "divisor", "matrix", "row", "column", "cell", "robot", "island", "bridge", "river", "farm",
    "field", "garden", "flower", "seed", "animal", "cat", "dog", "bird", "fish", "student", "teacher", "class",
    "exam", "mark", "question", "answer", "message", "packet", "server", "client", "cache", "queue", "stack",
    "heap", "segment", "interval", "point", "line", "circle", "angle", "square", "triangle", "cube", "tower",
    "block", "level", "floor", "room", "door", "key", "lock", "lamp", "switch", "button", "clock", "minute",
    "hour", "day", "week", "month", "year", "price", "cost", "budget", "order", "item", "basket", "store",
)  # fmt: skip
VERBS = (
    "count", "find", "print", "compute", "choose", "remove", "insert", "replace", "reverse", "sort", "merge",
    "split", "move", "swap", "paint", "connect", "visit", "reach", "cover", "minimise", "maximise", "distribute",
    "collect", "open", "close", "buy", "sell", "share", "compare", "encode", "decode", "search",
)  # fmt: skip
SMALL = (
    "the", "a", "of", "in", "to", "for", "with", "from", "each", "every", "any", "two", "three", "first", "last",
    "largest", "smallest", "given", "such", "that", "if", "is", "are",
)  # fmt: skip
NAMES = (
    "n", "m", "k", "a", "b", "c", "i", "j", "x", "y", "left", "right", "total", "best", "count", "seen", "graph",
    "node", "queue", "value", "limit", "answer", "rows", "text", "words",
)  # fmt: skip
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
        words = [dice.choice(SMALL if dice.random() < 0.45 else NOUNS) for _ in range(dice.randint(9, 15))]
        sentences.append(f"{dice.choice(VERBS).title()} {' '.join(words)}.")
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


# -- bombs --------------------------------------------------------------------------------------------------------


def repeated(start: bytes, piece: bytes, end: bytes, size: int) -> Iterator[bytes]:
    """`piece` as often as it takes for so many bytes."""
    many = piece * max(1, 2**20 // len(piece))
    yield start
    for _ in range(size // len(many)):
        yield many
    yield end


ROW = json.dumps({"prompt": "p" * 500, "completion": "c" * 800}).encode()


def bombs(folder: Path, size: int) -> Iterator[Path]:
    """Writes one file after another; each is removed before the next one."""
    whole: dict[str, tuple[bytes, bytes, bytes]] = {
        "one_row.jsonl": (b'{"prompt": "', b"p", b'", "completion": "c"}\n'),
        "one_list.json": (b'[{"prompt": "', b"p", b'", "completion": "c"}]'),
        "one_line.txt": (b"{", b" ", b"}"),
        "rows.jsonl": (b"", ROW + b"\n", b""),
        "rows.json": (b"[", ROW + b",", ROW + b"]"),
        "blank_lines.jsonl": (b"", b"\n", b""),
        "nested.json": (b"", b"[", b""),
        "keys.jsonl": (b"{" + b", ".join(b'"k%d": 1' % i for i in range(10**6)) + b"}\n", b"\n", b""),
        "one_cell.csv": (b'prompt,completion\nq,"', b"c", b'"\n'),
        "one_cell_of_lines.csv": (b'prompt,completion\nq,"', b"c\n", b'"\n'),
        "cells.csv": (b"prompt,completion\n", b",", b"\n"),
        "rows.csv": (b"prompt,completion\n", b"p" * 500 + b"," + b"c" * 800 + b"\n", b""),
    }
    for name, parts in whole.items():
        path = folder / name
        with path.open("wb") as file:
            file.writelines(repeated(*parts, size))
        yield path
        path.unlink()
    for suffix, packed in (("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open)):
        for name in ("one_row.jsonl", "rows.jsonl"):
            path = folder / f"{name}.{suffix}"
            with packed(path, "wb") as file:
                file.writelines(repeated(*whole[name], size))
            yield path
            path.unlink()
    import pyarrow
    import pyarrow.parquet

    for name, cell, rows in (("dictionary", size // 64, 2000), ("one_cell", size, 1)):
        path = folder / f"{name}.parquet"
        text = pyarrow.array(["c" * cell])
        column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), text)
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"] * rows, "completion": column}), path)
        yield path
        path.unlink()


def read(path: Path) -> str:
    """What becomes of a file, in words."""
    try:
        found = examples(read_rows(str(path)), Dataset(), "arm", path.name)
    except KiyasError as error:
        return f"refused: {str(error).replace(str(path.parent), '')}".replace("\n", " ")
    return f"read: {len(found.read)} rows"


# -- measuring ----------------------------------------------------------------------------------------------------


def study(folder: Path, base: Path) -> Study:
    arms = {name: {"dataset_name": str(folder / f"{name}.jsonl")} for name in ("many", "single")}
    settings = {
        "name": "large",
        "model_name_or_path": str(base),
        "arms": arms,
        "seeds": 1,
        "dataset": {"validation_fraction": 0.02},
        "training": {"budget": {"steps": 4}, "max_length": 1024},
        "judge": {"isolation": "best"},
    }
    return Study.model_validate(settings)


def a_base(folder: Path) -> Path:
    """The practice base, told to take longer samples."""
    shutil.copytree(practice.base_path(), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    return folder


def do(verb: str, folder: Path, base: Path) -> str:
    if verb == "read":
        return read(folder)
    if verb == "check":
        from kiyas.check import check

        return f"{len(check(study(folder, base)).remarks)} remarks"
    stages.run(study(folder, base), RunDir(folder / "run"), until=Stage.DATA)
    return "written"


def measured(verb: str, folder: Path, base: Path) -> None:
    """In this process: what was done, seconds, peak memory."""
    started = time.perf_counter()
    told = do(verb, folder, base)
    own, largest = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{time.perf_counter() - started:8.1f} s {own:8.0f} MB (workers {largest:.0f} MB)  {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--verbs", nargs="*", default=["data", "check"])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--bombs", action="store_true")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measured(given.measure[0], Path(given.measure[1]), given.base)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        base = given.base or a_base(folder / "base")

        def run(verb: str, what: Path, name: str) -> None:
            command = [sys.executable, __file__, "--base", str(base), "--measure", verb, str(what)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            print(f"{name:<24}{done.stdout.strip() or f'ended with {done.returncode}'}", flush=True)

        if given.bombs:
            for path in bombs(folder, given.megabytes * 2**20):
                run("read", path, path.name)
            return
        for name, solutions, seed in (("many", 5, 1), ("single", 1, 2)):
            if not (folder / f"{name}.jsonl").exists():
                write_arm(folder / f"{name}.jsonl", given.rows, solutions, seed)
        for verb in given.verbs:
            run(verb, folder, verb)


if __name__ == "__main__":
    main()
