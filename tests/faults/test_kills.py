"""Kills, signals, power cuts and full disks at any write: the same command goes on and ends as an undisturbed run.

The long part prints the table fault × stage × outcome.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from faults.harness import Table, disturbed, litter, same, stage_of
from kiyas.runfolder.paths import RunDir, Stage

FAULTS = ("SIGKILL", "power cut", "dead process", "full disk", "SIGINT", "SIGTERM", "out of memory")
KILLS = 200


def chain(folder: Path, expected: RunDir, faults: Iterable[tuple[str, int | str]], table: Table) -> None:
    """One fault after another on one run folder, until it ends all the same; then it is compared."""
    run, met = RunDir(folder / "practice"), list[tuple[str, str]]()
    for kind, at in faults:
        code, err = disturbed(folder, kind, at)
        said = [line for line in err.splitlines() if line.startswith("kiyas:") or "Traceback" in line]
        stage = stage_of(run)
        wrong = "Traceback" in err or "this should not have happened" in err or stage.startswith("lost")
        if wrong:
            table[kind, stage, f"wrong: {' '.join(said)[:300]}"] += 1
        elif code == 0 and stage == "finished":
            break
        met.append((kind, stage))
    code, err = disturbed(folder, "none", 0)
    differs = same(run, expected) if code == 0 else f"it does not go on: {err[-300:]}"
    if code == 0 and (left := litter(run)):
        differs += f" litter: {left}"
    for kind, stage in met:
        table[kind, stage, f"wrong: {differs}" if differs else "the same findings"] += 1


def drawn(chance: random.Random, kinds: list[str]) -> list[tuple[str, int | str]]:
    """Where each fault falls."""
    return [(kind, chance.randrange(1, 9000 if "moment" in kind else 60)) for kind in kinds]


def shown(table: Table) -> str:
    return "\n".join(f"{kind:<20} {stage:<10} {n:>4}  {what}" for (kind, stage, what), n in sorted(table.items()))


def test_a_power_cut(tmp_path: Path, expected: RunDir) -> None:
    table: Table = Counter()
    chain(tmp_path, expected, [("power cut", 23)], table)
    print(shown(table))
    assert table and all(what == "the same findings" for *_, what in table), shown(table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["SIGKILL", "SIGINT", "SIGTERM", "power cut"])
def test_at_every_stage_boundary(tmp_path: Path, expected: RunDir, kind: str) -> None:
    table: Table = Counter()
    chain(tmp_path, expected, [(kind, f"{stage}: {when}") for stage in Stage for when in ("before", "after")], table)
    print(shown(table))
    assert table.total() >= 2 * len(Stage) - 1, "each of them happened"
    assert all(what == "the same findings" for *_, what in table), shown(table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_full_disk_at_one_write_after_another(tmp_path: Path, expected: RunDir) -> None:
    table: Table = Counter()
    chain(tmp_path, expected, [("full disk", at) for at in range(1, 60)], table)
    print(shown(table))
    assert table.total() > 10 and all(what == "the same findings" for *_, what in table), shown(table)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_hundreds_of_faults(tmp_path: Path, expected: RunDir) -> None:
    table: Table = Counter()
    chance = random.Random(20261129)
    number = 0
    while table.total() < KILLS:
        folder = tmp_path / str(number)
        folder.mkdir()
        kinds = [chance.choice((*FAULTS, "SIGKILL at a moment", "SIGKILL at a moment")) for _ in range(12)]
        chain(folder, expected, drawn(chance, kinds), table)
        number += 1
        print(f"after {number} runs:\n{shown(table)}", flush=True)
    assert all(what == "the same findings" for *_, what in table), shown(table)
