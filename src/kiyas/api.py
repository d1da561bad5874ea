"""Kıyas from Python and notebooks: the same pipeline as the command line, results as text and data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kiyas import pooling, report
from kiyas.analyse import Findings, analyse
from kiyas.report import pooled
from kiyas.report.language import Language
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.manifests import READS, refuse
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.file import load, refuse_untrusted
from kiyas.types import KiyasError

if TYPE_CHECKING:
    import pandas

__all__ = ["Comparison", "KiyasError", "Run", "compare", "run"]


class Run:
    """A run folder: finished, in progress, or imported.

    Raises KiyasError when the folder is not one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = RunDir(Path(folder))
        read_record(self.folder)

    @cached_property
    def findings(self) -> Findings:
        """Everything that the report shows, as a tree of frozen dataclasses."""
        return analyse(self.folder.root)

    @property
    def conclusion(self) -> str:
        """What the numbers support, in one English sentence."""
        return report.conclusion(self.findings)

    @cached_property
    def results(self) -> pandas.DataFrame:
        """One row per program: arm, variant, seed, step, problem_id, sample, verdict, passed, total, program."""
        import pandas

        columns = ["arm", "variant", "seed", "step", "problem_id", "sample", "verdict", "passed", "total", "program"]
        refuse(self.folder, READS[Stage.ANALYSE])
        return pandas.DataFrame(read_jsonl(self.folder.judgments), columns=columns)

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """One row per logged loss, as in train/log.jsonl; `kind` is train or validation."""
        import pandas

        refuse(self.folder, READS[Stage.ANALYSE])
        return pandas.DataFrame(read_jsonl(self.folder.train_log))

    def report(self, language: str | None = None) -> Path:
        """Draws the findings and writes the report again; returns the path of the page in that language.

        None: the study's own. Another language gets files of its own: index.tr.html.
        """
        from kiyas.pipeline import stages

        self.__dict__["findings"], page = stages.redraw(self.folder, language)
        return page

    def __str__(self) -> str:
        return report.text(self.findings)


def run(study: str | Path, *overrides: str, runs: str | Path = "runs", trust: bool = False) -> Run:
    """Runs a study file, or continues it: `kiyas.run("study.yaml", "training.learning_rate=1e-4")`.

    `trust`: as of `kiyas run --trust`; nobody is asked.
    Raises KiyasError, which says what is wrong, where, and what to do. A script that calls this with several
    workers needs the usual `if __name__ == "__main__":`.
    """
    from kiyas.pipeline import stages

    path = Path(study)
    settings = load(path, list(overrides))
    folder = RunDir(Path(runs) / settings.name)
    refuse_untrusted(settings, path, folder.root, list(overrides), trust=trust, ask=False)
    stages.run(settings, folder, text=path.read_text(encoding="utf-8"), overrides=list(overrides))
    return Run(folder.root)


@dataclass(frozen=True)
class Comparison:
    """Several replications, pooled: what `kiyas compare` shows."""

    pooled: pooling.Pooled

    @property
    def conclusion(self) -> str:
        """What the replications support together, in one English sentence."""
        return pooled.conclusion(self.pooled, Language("en")).sentence

    @property
    def results(self) -> pandas.DataFrame:
        """One row per replication, then the pooled ones: the columns of pooled.csv."""
        import pandas

        return pandas.DataFrame(pooled.rows(self.pooled, Language("en")).raw)

    def report(self, folder: str | Path, language: str = "en") -> Path:
        """Writes page, figures, table and text; returns the page's path."""
        return pooled.write(Path(folder), self.pooled, language=language)

    def __str__(self) -> str:
        return pooled.text(self.pooled)


def compare(
    sources: Sequence[str | Path],
    *,
    arms: tuple[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    problems: pooling.Problems = "same",
) -> Comparison:
    """Pools run folders and CSV files of counts: `print(kiyas.compare(["runs/mine", "runs/yours"]))`.

    `arms` are the two compared, (a, b), by default the first source's own; differences are b minus a. `names` renames
    arms, old to new. `problems` as of `kiyas compare --problems`. Raises KiyasError for what is not one comparison.
    """
    return Comparison(pooling.pool([Path(source) for source in sources], arms=arms, names=names, problems=problems))
