"""Forced disconnects: the machine is gone with its run folder, and the store has lost what was written last.

The same command on the next machine goes on from what is whole there, and ends with the findings of an undisturbed run.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from faults.harness import disturbed, litter, same, stage_of
from kiyas import cli
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.runfolder.store import Store

Table = Counter[tuple[str, str, str]]
"""(fault, stage, what the next machine did) → how often"""


def lose(store: Path, chance: random.Random, most: int) -> None:
    """Some of the files that were written last, `most` of them, are gone or cut."""
    files = sorted((path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    for path in files[-chance.randint(1, most) :]:
        if chance.random() < 0.5:
            path.unlink()
        else:
            os.truncate(path, chance.randrange(path.stat().st_size + 1))


def ends_the_same(folder: Path, expected: RunDir, faults: Iterable[tuple[str, int | str]], most_lost: int) -> Table:
    run, store, chance = RunDir(folder / "practice"), folder / "drive", random.Random(20261130)
    store.mkdir(exist_ok=True)
    table: Table = Counter()
    for kind, at in faults:
        code, err = disturbed(folder, kind, at, store)
        assert "Traceback" not in err and code <= 0, err
        table[kind, stage_of(run), "took back" if "store: took back" in err else "began anew"] += 1
        shutil.rmtree(run.root, ignore_errors=True)
        lose(store, chance, most_lost)
    code, err = disturbed(folder, "none", 0, store)
    assert code == 0, err
    assert same(run, expected) == ""
    assert not litter(run) and cli.main(["verify", str(run.root)]) == 0
    print("\n".join(f"{kind:<20} {stage:<10} {n:>3}  {what}" for (kind, stage, what), n in sorted(table.items())))
    return table


@pytest.mark.slow
def test_two_disconnects(tmp_path: Path, expected: RunDir) -> None:
    """Of a run that is trained, has answered, and was copied: no torch is loaded."""
    run = RunDir(shutil.copytree(expected.root, tmp_path / "practice"))
    run.drop(Stage.JUDGE)
    (tmp_path / "drive").mkdir()
    Store.of(tmp_path / "drive", "practice").keep(run, "practice", read_record(run).run_id, "before")
    shutil.rmtree(run.root)
    table = ends_the_same(tmp_path, expected, [("SIGKILL", "judge: before"), ("SIGKILL", "analyse: after")], 3)
    assert table == {("SIGKILL", "judge", "took back"): 1, ("SIGKILL", "report", "took back"): 1}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_disconnects(tmp_path: Path, expected: RunDir) -> None:
    """At both ends of every stage, and at moments and writes in between."""
    chance = random.Random(20261130)
    ends: list[tuple[str, int | str]] = [
        ("SIGKILL", f"{stage}: {when}") for stage in Stage for when in ("before", "after")
    ]
    faults: list[tuple[str, int | str]] = []
    for number, end in enumerate(ends):
        faults.append(end)
        if number % 3 != 2:
            at_a_write = ("SIGKILL", chance.randrange(3, 30))
            faults.append(chance.choice([("SIGKILL at a moment", chance.randrange(2500, 9000)), at_a_write]))
    assert len(faults) == 20
    table = ends_the_same(tmp_path, expected, faults, 8)
    assert table.total() == 20 and len({stage for _, stage, _ in table}) >= 5, table
    assert sum(n for (_, _, what), n in table.items() if what == "took back") >= 10, table
