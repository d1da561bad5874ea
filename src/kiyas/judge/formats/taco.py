"""TACO: APPS's columns, and topics, skills and limits besides.

Rows: the data card of BAAI/TACO on the Hub. They have no id: it is the row's number, from 0.
"""

from __future__ import annotations

from dataclasses import replace

from . import apps
from .format import Format, Problem, Row, megabytes, seconds, take_json


def problem(row: Row) -> Problem:
    skills = take_json({"skill_types": str(row.get("skill_types") or "[]").replace("'", '"')}, "skill_types", list)
    return replace(
        apps.problem(row),
        time_limit_s=seconds(row, "time_limit"),
        memory_limit_mb=megabytes(row, "memory_limit"),
        tags=tuple(map(str, skills)),
        platform="taco",
    )


FORMAT = Format(
    name="taco",
    columns=(*apps.FORMAT.columns, "skill_types|raw_tags|Expected Auxiliary Space"),
    problem=problem,
    solutions=apps.solutions,
    title="TACO",
)
