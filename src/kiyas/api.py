"""Kıyas from Python and notebooks: the same pipeline as the command line, results as text and data frames."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiyas import pooling, report
from kiyas.analyse import Findings, analyse
from kiyas.report import inline, notebook, pooled
from kiyas.report.language import Language
from kiyas.report.tables import tables
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.manifests import READS, refuse
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import given_study, read_record
from kiyas.study.file import as_overrides, refuse_untrusted
from kiyas.types import KiyasError

if TYPE_CHECKING:
    import pandas

__all__ = ["Comparison", "KiyasError", "Run", "compare", "run"]


class Run:
    """A run folder: finished, in progress, or imported.

    A notebook shows the first screen of its report. Raises KiyasError if the folder is not a run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = RunDir(Path(folder))
        self._language = read_record(self.folder).language
        self._shown_in: object = None
        """the cell of a notebook that shows it already"""

    @cached_property
    def findings(self) -> Findings:
        """Everything that the report shows, as a tree of frozen dataclasses."""
        return analyse(self.folder.root)

    @property
    def conclusion(self) -> str:
        """What the numbers support, in one English sentence."""
        return report.conclusion(self.findings)

    @cached_property
    def table(self) -> pandas.DataFrame:
        """The result table: a row for the base, each arm and each of its seeds, as in tables/results.csv.

        Rates, intervals and differences from the base are shares: 1.0 is 100 %.
        """
        import pandas

        made = tables(self.findings, Language("en"))
        return pandas.DataFrame(made["results"].raw if "results" in made else ())

    @cached_property
    def judgments(self) -> pandas.DataFrame:
        """One row per program: arm, variant, seed, step, problem_id, sample, verdict, passed, total, program.

        The program passed `passed` of `total` tests. Without rows if nothing is judged yet. Raises KiyasError if the
        file was changed after it was written.
        """
        import pandas

        columns = ["arm", "variant", "seed", "step", "problem_id", "sample", "verdict", "passed", "total", "program"]
        return pandas.DataFrame(self._rows(self.folder.judgments), columns=columns)

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """One row per logged loss, as in train/log.jsonl: arm, variant, seed, step, kind, loss and more.

        `kind` is train or validation; `loss` is in nats per answer token. Raises KiyasError as `judgments` does.
        """
        import pandas

        rows = self._rows(self.folder.train_log)
        return pandas.DataFrame(rows, columns=None if rows else ["arm", "variant", "seed", "step", "kind", "loss"])

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        refuse(self.folder, READS[Stage.ANALYSE])
        return read_jsonl(path) if path.exists() else []

    def report(self, language: str | None = None) -> Path:
        """Computes the findings and writes the report again; returns the path of the page in that language.

        None: the study's language. Another language gets its own files, such as index.tr.html.
        """
        from kiyas.pipeline import stages

        self.__dict__["findings"], page = stages.redraw(self.folder, language)
        return page

    def __str__(self) -> str:
        return report.line(self.findings)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __fspath__(self) -> str:
        return str(self.folder)

    def _repr_html_(self) -> str | None:
        if self._shown_in is not None and self._shown_in == notebook.cell():
            return None
        try:
            return inline.of_run(self.folder.root, self.findings, self._language)
        except KiyasError as error:  # nothing is judged yet, or a file is damaged
            return f"<b>{html.escape(self.folder.root.name)}</b><pre>{html.escape(str(error))}</pre>"


def run(
    study: str | Path,
    *overrides: str,
    runs: str | Path = "runs",
    trust: bool = False,
    max_hours: float | None = None,
    ray: str | None = None,
    **settings: Any,
) -> Run:
    """Runs a study file, or continues its run. A run folder, or the study file in it, continues that run.

        kiyas.run("study.yaml", seeds=2, training={"learning_rate": 1e-4, "budget": {"steps": 100}})
        kiyas.run("study.yaml", "training.learning_rate=1e-4")     # as on the command line

    `settings` override the file; in a section, only the given keys change. `runs` is the folder for all runs. `trust`
    is `kiyas run --trust`; without it, nothing is asked: what needs trust is refused. `max_hours` is
    `kiyas run --max-hours`: a run that it stopped has no findings yet, and the same call continues it. `ray` is
    `kiyas run --ray`. In a notebook, losses and pass rates are plotted during the run. Raises KiyasError: it says what
    is wrong, where, and what to do.
    """
    from kiyas.pipeline import stages

    changed = [*overrides, *as_overrides(settings)]
    given = given_study(Path(study), changed)
    text = given.file.read_text(encoding="utf-8") if given.file.is_file() else ""
    folder = given.folder or RunDir(Path(runs) / given.study.name)
    refuse_untrusted(given.study, given.file, folder.root, changed, trust=trust, ask=False)
    with notebook.shown(folder) as view:
        ended = stages.run(
            given.study, folder, file=given.file, text=text, overrides=changed, max_hours=max_hours, ray=ray
        )
        done = Run(folder.root)
        if view is not None and not ended:
            view.end("stopped (run the cell again to continue)")
        elif view is not None:
            view.end("finished", inline.of_run(folder.root, done.findings, done._language))
            done._shown_in = notebook.cell()
    return done


@dataclass(frozen=True)
class Comparison:
    """Several replications, pooled, as `kiyas compare` shows them. A notebook shows the first screen of the page."""

    pooled: pooling.Pooled

    @property
    def conclusion(self) -> str:
        """What the replications support together, in one English sentence."""
        return pooled.conclusion(self.pooled, Language("en")).sentence

    @property
    def table(self) -> pandas.DataFrame:
        """One row per replication, then the pooled results, with the columns of pooled.csv."""
        import pandas

        return pandas.DataFrame(pooled.rows(self.pooled, Language("en")).raw)

    def report(self, folder: str | Path, language: str = "en") -> Path:
        """Writes page, figures, table and text; returns the page's path."""
        return pooled.write(Path(folder), self.pooled, language=language)

    def __str__(self) -> str:
        return pooled.line(self.pooled)

    def __repr__(self) -> str:
        return f"Comparison({len(self.pooled.replications)} replications)"

    def _repr_html_(self) -> str:
        return inline.of_pooled(self.pooled, "en")


def compare(
    sources: Sequence[str | Path | Run],
    *,
    arms: tuple[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    problems: pooling.Problems = "same",
) -> Comparison:
    """Pools runs, their folders, and CSV files of counts: `kiyas.compare(["runs/mine", "runs/yours"]).conclusion`.

    `arms` are the two to compare, (a, b), by default those of the first source; differences are b minus a. `names`
    renames arms, old to new. `problems` is `kiyas compare --problems`. Raises KiyasError if the sources cannot be
    compared.
    """
    return Comparison(pooling.pool([Path(source) for source in sources], arms=arms, names=names, problems=problems))
