"""A CSV file of counts as replications: which problem was solved by whom is not known."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kiyas.analyse import Level, Remark
from kiyas.pooling.replication import Replication
from kiyas.runfolder.files import refuse_not_a_file
from kiyas.runfolder.spreadsheet import text_of_cell
from kiyas.stats.meta_analysis import unpaired
from kiyas.types import KiyasError

COLUMNS = ("study", "arm", "solved", "total")

Counts = dict[str, dict[str, list[tuple[float, int]]]]
"""study → arm → (solved, total) of each seed"""


def read(path: Path, names: Mapping[str, str]) -> Counts:
    """A CSV file with the columns study, arm, solved and total; further ones are ignored. All mistakes at once."""
    found: Counts = {}
    called: dict[tuple[str, str], str] = {}
    wrong: list[str] = []
    refuse_not_a_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                first = ",".join(reader.fieldnames or [])
                raise KiyasError(
                    f"{path} has no column {', '.join(missing)}; its first line is {first!r}",
                    f"the first line names the columns, with commas between: {','.join(COLUMNS)}",
                )
            for row in reader:
                study, arm = (text_of_cell((row[column] or "").strip()) for column in COLUMNS[:2])
                try:
                    solved, total = float(row["solved"] or ""), int(row["total"] or "")
                except ValueError:
                    wrong.append(f"line {reader.line_num}: solved must be a number and total a whole one")
                    continue
                if not study or not arm:
                    wrong.append(f"line {reader.line_num}: no {'arm' if study else 'study'}")
                elif not 0 <= solved <= total or total < 1:
                    wrong.append(f"line {reader.line_num}: {row['solved']} solved of {row['total']}")
                elif called.setdefault((study, names.get(arm, arm)), arm) != arm:
                    wrong.append(f"line {reader.line_num}: two arms of {study} would be called {names.get(arm, arm)}")
                else:
                    found.setdefault(study, {}).setdefault(names.get(arm, arm), []).append((solved, total))
    except FileNotFoundError:
        raise KiyasError(f"no such run folder or CSV file: {path}") from None
    except OSError as error:
        raise KiyasError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise KiyasError(f"{path} is not a CSV file in UTF-8: {error}", "give run folders or CSV files") from error
    if wrong:
        more = f"\n  and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise KiyasError(f"{path}:\n  " + "\n  ".join(wrong[:20]) + more, "a row is study,arm,solved,total")
    if not found:
        raise KiyasError(f"{path} holds no rows")
    return found


def replications(tables: Mapping[Path, Counts], a: str, b: str, noted: list[Remark]) -> list[Replication]:
    found: dict[str, Replication] = {}
    for path, table in tables.items():
        absent = [arm for arm in (a, b) if not any(arm in of_study for of_study in table.values())]
        if absent:
            met = dict.fromkeys(arm for of_study in table.values() for arm in of_study)
            raise KiyasError(
                f"{path} has no arm {' and no arm '.join(absent)}: its arms are {', '.join(met)}",
                "if it is the same arm under another name, say so with --arm OLD=NEW",
            )
        for study, of_study in table.items():
            if study in found:
                raise KiyasError(f"study {study} is in two files, {path} is the second", "a replication counts once")
            if a not in of_study or b not in of_study:
                noted.append(Remark("one_arm", Level.WARNING, {"name": study, "arm": b if a in of_study else a}))
                continue
            totals = sorted({total for arm in (a, b) for _, total in of_study[arm]})
            if len(totals) > 1:
                told = ", ".join(map(str, totals))
                noted.append(Remark("totals_differ", Level.WARNING, {"name": study, "totals": told}))
            it = unpaired(of_study[a], of_study[b])
            rate = {arm: float(np.mean([solved / total for solved, total in of_study[arm]])) for arm in (a, b)}
            found[study] = Replication(
                study, "unpaired", min(len(of_study[a]), len(of_study[b])), totals[0], rate[a], rate[b], it.difference,
                it.interval(), it.interval(0.90), it.p, it.standard_error,
                informative=_informative(of_study[a] + of_study[b]),
            )  # fmt: skip
    return list(found.values())


def _informative(rows: Sequence[tuple[float, int]]) -> int:
    """At most so many problems are solved in some of these rows and not in others."""
    return math.floor(min(sum(solved for solved, _ in rows), sum(total - solved for solved, total in rows)))
