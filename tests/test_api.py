"""Kıyas from Python: in a script, and in a notebook whose kernel is played by an object."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kiyas
from kiyas.report import drawing, notebook
from kiyas.report.notebook import Course
from kiyas.runfolder.paths import RunDir
from kiyas.work import workers
from synthetic import make_run

STUDY = """
name: small
model_name_or_path: practice
arms: {deep: {dataset_name: practice/deep}, diverse: {dataset_name: practice/diverse}}
seeds: 1
peft: {r: 2}
training: {budget: {epochs: 3}, max_length: 256, save_steps: 2, workers: 1}
benchmarks: {primary: {dataset: practice, problems: 3}}
generation: {max_new_tokens: 24}
judge: {isolation: best, time_limit_s: 2}
"""


class Kernel:
    """As much of IPython as a run needs, and what was displayed so far."""

    def __init__(self) -> None:
        self.execution_count = 1
        self.kernel = self
        self.shown: list[str] = []

    def update(self, content: str) -> None:
        self.shown.append(content)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made, python, display = Kernel(), ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: made  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda content, display_id: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    yield made


def test_run_twice_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel, own_engine: Any
) -> None:
    """A room of the package that is called like a public function would replace it at the first call."""
    monkeypatch.setattr(drawing, "engine", own_engine)  # two threads draw
    monkeypatch.setattr(notebook, "EVERY_S", 0.05)
    monkeypatch.setattr(notebook, "DRAWN_EVERY_S", 0.0)
    (tmp_path / "study.yaml").write_text(STUDY)
    first = kiyas.run(tmp_path / "study.yaml", runs=tmp_path / "runs", training={"budget": {"steps": 2}})
    assert len(first.judgments) == 3 * 3 and set(first.curves["kind"]) == {"train", "validation"}
    assert list(first.table["arm"]) == ["base", "deep", "diverse"] and set(first.table["problems"]) == {3}
    assert str(first) == f"small: Undecided. {first.conclusion}" and repr(first).startswith("Run('")
    # In the notebook: progress, then losses, then the report's first screen, once in the cell that ran it.
    assert any("train: 0/" in text for text in kernel.shown) and any("<svg" in text for text in kernel.shown)
    assert "finished after 0:" in kernel.shown[-1] and "<iframe srcdoc=" in kernel.shown[-1]
    assert first._repr_html_() is None
    kernel.execution_count += 1
    page = first._repr_html_()
    assert page is not None and page in kernel.shown[-1]
    inside = html.unescape(re.findall(r'srcdoc="([^"]*)"', page)[0])
    assert "<script" not in inside and 'class="badge"' in inside and inside.count("<img") == 2
    # A run folder goes on with its own settings, as on the command line.
    second = kiyas.run(tmp_path / "runs" / "small", "report.language=tr")
    assert first.conclusion == second.conclusion
    assert 'lang="tr"' in (tmp_path / "runs" / "small" / "report" / "index.html").read_text(encoding="utf-8")
    with pytest.raises(kiyas.KiyasError, match="override: seeds") as refusal:
        kiyas.run(tmp_path / "study.yaml", seeds=0)
    assert refusal.value._render_traceback_() == [f"kiyas: {refusal.value}"]
    assert kiyas.__version__ == "0.1.0" and callable(kiyas.compare) and callable(kiyas.run)


def test_a_notebook_without_charts_shows_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    monkeypatch.setattr(notebook, "EVERY_S", 0.005)
    monkeypatch.setattr(notebook, "DRAWN_EVERY_S", 0.0)
    monkeypatch.setattr(Course, "charts", lambda _: 1 / 0)
    folder = RunDir(make_run(tmp_path / "run", seeds=(0,), steps=(20,), problems=4))
    with pytest.raises(KeyboardInterrupt), notebook.shown(folder) as view:
        assert view is not None
        view.said("one")
        while not any("one" in text for text in kernel.shown):
            time.sleep(0.005)
        view.said("two")
        while not any("two" in text for text in kernel.shown):
            time.sleep(0.005)
        raise KeyboardInterrupt
    assert "stopped (run the cell again to continue)" in kernel.shown[-1]
    assert "no charts: ZeroDivisionError: division by zero" in kernel.shown[-1]


def test_pooled_runs_show_their_first_screen(tmp_path: Path) -> None:
    seeds = {"one": (0, 1), "two": (2, 3)}
    runs = [make_run(tmp_path / name, seeds=own, steps=(20,), problems=4) for name, own in seeds.items()]
    found = kiyas.compare([kiyas.Run(runs[0]), runs[1]])
    page = html.unescape(found._repr_html_())
    assert "<iframe" in page and "<script" not in page and 'class="badge"' in page and page.count("<img") == 1
    assert str(found).endswith(found.conclusion) and repr(found) == "Comparison(2 replications)"
    assert list(found.table["replication"])[:2] == ["one", "two"]


def test_what_a_run_has_shown_so_far(tmp_path: Path) -> None:
    """Whole rows of files that grow; of several seeds the mean; of validation losses those on the arm's own set."""
    folder = RunDir(make_run(tmp_path / "run", seeds=(0, 1), steps=(20, 40), problems=4))
    log = folder.train_log.read_bytes()
    folder.train_log.write_bytes(log[: len(log) // 2])
    course = Course(folder)
    assert course.read() and not course.read()
    folder.train_log.write_bytes(log)
    assert course.read() and not course.read()
    run = kiyas.Run(folder.root)
    curves = run.curves[(run.curves["kind"] == "train") | (run.curves["on"] == run.curves["arm"])]
    means = curves.groupby(["arm", "kind", "step"])["loss"].mean()
    rates = (run.judgments["verdict"] == "AC").groupby([run.judgments["arm"], run.judgments["step"]]).mean()
    losses, judged = (chart.to_dict()["data"]["values"] for chart in course.charts())
    assert {(row["arm"], row["kind"], row["step"]): row["loss"] for row in losses} == pytest.approx(dict(means))
    assert {(row["arm"], row["step"]): row["rate"] for row in judged} == pytest.approx(dict(rates))


def test_a_run_of_which_nothing_is_known_yet(tmp_path: Path) -> None:
    folder = RunDir(make_run(tmp_path / "run", seeds=(0,), steps=(20,), problems=4))
    folder.judgments.unlink()
    folder.train_log.unlink()
    run = kiyas.Run(folder.root)
    assert run.judgments.empty and run.curves.empty and {"arm", "seed"} <= {*run.judgments} & {*run.curves}


def test_what_a_run_prints_gives_a_terminal_no_orders(tmp_path: Path) -> None:
    arms = {"a\x1b[2J": 0.2, "b": 0.9}
    folder = make_run(tmp_path / "run", rates=arms, imported=True, seeds=(0,), steps=(20,), problems=40)
    run = kiyas.Run(folder)
    assert "\x1b" in run.conclusion and "a\ufffd[2J" in str(run)


def test_no_worker_runs_the_script_that_called_us(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ModuleType("__main__")
    script.__file__ = "script.py"
    monkeypatch.setitem(sys.modules, "__main__", script)

    def of_the_script(prepared: dict[str, Any]) -> set[str]:
        return {"init_main_from_name", "init_main_from_path"} & set(prepared)

    assert of_the_script(spawn.get_preparation_data("worker"))
    with workers._without_the_callers_script():
        assert not of_the_script(spawn.get_preparation_data("worker"))
    assert of_the_script(spawn.get_preparation_data("worker"))


@pytest.mark.slow
def test_a_plain_script_without_a_guard(tmp_path: Path) -> None:
    """Two workers and the pool that reads the data, each started from a script that begins with the call."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("workers: 1", "workers: 2"))
    script = (
        "print('begins')\nimport kiyas\nrun = kiyas.run('study.yaml', training={'budget': {'steps': 4}})\nprint(run)\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begins") == 1 and "small: Undecided." in done.stdout


def executed(name: str, folder: Path) -> Any:
    """A notebook of the documentation, after all of its cells but those that install something."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(Path(__file__).parents[1] / "docs" / name, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells), "it is kept without outputs"
    client = NotebookClient(
        book, timeout=600, kernel_name="python3", skip_cells_with_tag="not-run-here",
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute()
    said = [output.text for cell in book.cells for output in cell.get("outputs", []) if output.output_type == "stream"]
    assert not any("Warning" in text or "Traceback" in text for text in said), said
    return book


def shown_by_the_run(book: Any) -> str:
    (ran,) = [cell for cell in book.cells if cell.cell_type == "code" and "run = kiyas.run(" in cell.source]
    (shown,) = [output for output in ran.outputs if output.output_type == "display_data"]
    return str(shown.data["text/html"])


@pytest.mark.slow
def test_the_notebook_of_the_documentation(tmp_path: Path) -> None:
    assert "<iframe srcdoc=" in shown_by_the_run(executed("notebook.ipynb", tmp_path))


@pytest.mark.slow
def test_the_notebook_for_colab_on_two_machines(tmp_path: Path) -> None:
    """The same cells, as they are; the second machine has nothing but the folder that stays."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert "<iframe srcdoc=" in shown_by_the_run(executed("colab.ipynb", first))
    (first / "store").rename(second / "store")
    book = executed("colab.ipynb", second)
    assert "<iframe srcdoc=" in shown_by_the_run(book)
    assert (second / "store" / "practice.html").is_file()
    whole = (RunDir(each / "runs" / "practice").findings.read_bytes() for each in (first, second))
    assert len(set(whole)) == 1, "taken back, not made again"
