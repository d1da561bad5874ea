"""How large what a study reads may be: every limit once, by name. docs/limits.md lists them.

They are far above what people compare, and bound memory and time by what is asked instead of by what somebody sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from kiyas.judge.rows import MOST_OF_A_ROW
from kiyas.types import KiyasError

MIB = 1 << 20


@dataclass(frozen=True)
class Limit:
    """The most that `what` may have, in `unit`."""

    what: str
    most: int
    unit: str
    remedy: str

    def refuse_above(self, found: int, where: object, known: bool = True) -> None:
        """Raises KiyasError that names the file, the limit and what to do. Not `known`: `found` is only a part."""
        if found > self.most:
            has = f"has {in_words(found, self.unit)}" if known else f"has more than {in_words(self.most, self.unit)}"
            raise KiyasError(
                f"{where}: {self.what} {has}; the limit is {in_words(self.most, self.unit)}",
                f"{self.remedy} (docs/limits.md lists all limits)",
            )


def in_words(count: int, unit: str) -> str:
    """`count` bytes in MiB, anything else with its unit."""
    if unit == "bytes" and count >= MIB:
        return f"{count / MIB:,.0f} MiB"
    return f"{count:,} {unit}"


STUDY_FILE = Limit("a study file", MIB, "bytes", "a study file has some dozens of lines: is it the right file?")
ROW = Limit("a row", 64 * MIB, "bytes", "take it out, or write one row a line")
TEXT = Limit("a prompt or completion", 8 * MIB, "characters", "no model reads that much at once: take the row out")
ROWS = Limit("a data set", 5_000_000, "rows", "train on a part: `from: ARM` with `fraction`, of a smaller file")
COLUMNS = Limit("a data set", 10_000, "columns", "keep the columns that are used: prompt, completion, id, split, group")
UNPACKED = Limit("an unpacked file", 65_536 * MIB, "bytes", "split it, or check that it holds what it should")
PAGE = Limit("a column of a Parquet row group", 4_096 * MIB, "bytes", "write it with smaller row groups")
DICTIONARY = Limit("the xz dictionary", 256 * MIB, "bytes", "pack it again: xz -6 FILE")
RESULTS = Limit("a file of results or a log", 2_048 * MIB, "bytes", "split it, or leave what is not read out of it")
DOCUMENT = Limit("a JSON document", 256 * MIB, "bytes", "write one row a line (.jsonl), or restore the right file")
LINE = Limit("a line", MOST_OF_A_ROW, "bytes", "restore this file from a copy, or make it again")
MODEL_FILE = Limit("a model's configuration", 16 * MIB, "bytes", "restore the model's own file")
HEADER = Limit("the header of a safetensors file", 32 * MIB, "bytes", "save or download it again")
TOKENIZER = Limit("a tokenizer file", 512 * MIB, "bytes", "use the model's own tokenizer files")
