"""What a stranger wrote stays text in every file that we write: report.md, CSV, page, figures, methods, study files."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile import ALL, STRINGS, orders_in
from ruamel.yaml import YAML

from kiyas import cli
from kiyas.interop.files import File, Notes, tables
from kiyas.pooling import counts
from kiyas.report.language import phrases
from kiyas.report.quoting import markdown
from kiyas.runfolder.spreadsheet import text_in_cell, text_of_cell


@pytest.fixture(scope="module")
def report(stranger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a stranger's run, by the command."""
    run = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(stranger, run)
    assert cli.main(["report", str(run)]) == 0
    return run / "report"


def test_no_file_of_a_report_gives_a_terminal_orders(report: Path) -> None:
    for path in report.rglob("*"):
        if path.suffix in (".md", ".csv", ".txt", ".bib", ".svg"):
            text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
            assert not orders_in(text), (path, orders_in(text))


# -- Markdown ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", STRINGS)
def test_markdown_has_no_markup_of_theirs(text: str) -> None:
    quoted = markdown(text)
    bare = re.sub(r"\\[\\`*_\[\]>|#~:.]", "", quoted)
    assert not re.search(r"[`*_\[\]|<>#~\n\r]", bare), bare
    assert not re.search(r"(?i)https?://|www\.\w|mailto:", bare)


def test_report_md_has_our_markers_and_links_only(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert all(re.fullmatch(r"[\w.-]+", name) for name in re.findall(r"<!-- kiyas:author (.*) -->", text))
    assert text.count("<!-- kiyas:author question -->") == 1
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert links and all(re.fullmatch(r"(tables|figures)/[^/\s]+|#(figure|table)-\d+", link) for link in links)
    ours = re.sub(r'<span id="(figure|table)-\d+">\*\*[^*]+\*\*</span>', "", text)
    ours = ours.replace(f"<!-- {phrases('en')['document.keep']} -->", "")
    assert not re.search(r"<(?!!-- kiyas:)", ours), "no raw HTML"
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, "every row of a table has as many cells as its head"


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", STRINGS)
def test_a_cell_is_no_formula_and_is_read_back(text: str, tmp_path: Path) -> None:
    cell = text_in_cell(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n") and not orders_in(cell)
    if not orders_in(text):
        assert text_of_cell(cell) == text
        out = io.StringIO()
        csv.writer(out).writerows([["study", "arm", "solved", "total"], [f"s{cell}", text_in_cell("=a"), 1, 2]])
        path = tmp_path / "counts.csv"
        path.write_bytes(out.getvalue().encode())
        assert [*counts.read(path, {}).values()] == [{"=a": [(1.0, 2)]}]
        ((rows,),) = [[[row for _, row in table] for table in tables(File(path, True, ()), Notes())]]
        assert rows[0]["arm"] == "=a"


def test_the_tables_of_a_report_hold_no_formula(report: Path) -> None:
    numbers = 0
    for path in (report / "tables").glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                try:
                    float(cell)
                    numbers += cell.startswith("-")
                except ValueError:
                    assert not re.match(r"[=+\-@\t\r\n]", cell), (path, cell)
    assert numbers, "negative numbers stay numbers"


def test_the_differences_of_an_import(tmp_path: Path) -> None:
    problems = [{"id": text, "tests": [{"input": "", "output": "1\n"}]} for text in ("=1+1", "@a")]
    rows = [{"question_id": text, "passed": True, "extracted_code": "print(2)"} for text in ("=1+1", "@a")]
    for name, lines in (("problems", problems), ("deep_checkpoint-100", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["import", tmp_path / "deep_checkpoint-100.jsonl", "--problems", tmp_path / "problems.jsonl"]
    assert cli.main([*map(str, words), "--rejudge", "--isolation", "best", "--out", str(tmp_path / "run")]) == 0
    with (tmp_path / "run" / "judge" / "differences.csv").open(newline="", encoding="utf-8") as file:
        assert [row["problem_id"] for row in csv.DictReader(file)] == ["'=1+1", "'@a"]


# -- HTML and figures -------------------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_runs_and_loads_only_what_is_ours(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    page = _Tags(html)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
    running = [attrs for tag, attrs in page.tags if tag == "script" and attrs.get("type") != "application/json"]
    assert len(running) == 2
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    keys = ("src", "srcset", "data", "action")
    loads = [value for _, attrs in page.tags for key in keys if (value := attrs.get(key))]
    assert all(value.startswith("data:image/svg+xml;base64,") for value in loads)
    links = [str(attrs.get("href")) for tag, attrs in page.tags if tag in ("a", "link")]
    assert all(re.match(r"#|tables/|figures/|methods.txt$|references.bib$", link) for link in links)
    shown = html.split('<script type="application/json"', 1)[0]
    assert not re.search("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown), "the page reads as it is written"


def test_figures_are_whole(report: Path) -> None:
    from xml.etree import ElementTree

    figures = list((report / "figures").glob("*.svg"))
    assert len(figures) == 7
    for figure in figures:
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(figure).iter()}
        assert not tags & {"script", "foreignObject", "image", "a"}


def test_a_pooled_page(tmp_path: Path) -> None:
    lines = [f'"{text}",{arm},{n},41' for n, text in enumerate(STRINGS[8:16], 9) for arm in ("<b>a", "=b")]
    (tmp_path / "c.csv").write_text("\n".join(["study,arm,solved,total", *lines]) + "\n", encoding="utf-8")
    assert cli.main(["compare", str(tmp_path / "c.csv"), "--out", str(tmp_path / "out")]) == 0
    page = _Tags((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    scripts = [tag for tag, _ in page.tags if tag == "script"]
    assert len(scripts) == 3 and "<b>a" in page.text, "our data, the charts' library and our script"
    text = (tmp_path / "out" / "pooled.md").read_text(encoding="utf-8")
    assert not re.search(r"<(?!!--)", text)


# -- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*STRINGS, "x\njudge: {python: /tmp/evil}", "x # y: z", "dé\U0001f600"])
def test_the_study_file_of_an_import(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two adapters name a hostile base; the folder that they lie in is hostile, too."""
    for step, base in ((100, text), (200, f"other {text}")):
        folder = tmp_path / text.replace("/", "|").replace("\0", "") / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 8, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        shutil.copyfile(adapter(tmp_path), folder / "adapter_model.safetensors")
    words = ["import", str(tmp_path), "--out", str(tmp_path / "run"), f"--name={text}", "--arm", "checkpoint=deep"]
    code = cli.main(words)
    assert code == 0, capsys.readouterr().err
    written = (tmp_path / "run" / "study.yaml").read_text(encoding="utf-8")
    tree = YAML(typ="safe").load(written)
    assert set(tree) == {
        "name", "model_name_or_path", "arms", "dataset", "seeds", "benchmarks", "generation", "compare",
    }  # fmt: skip
    assert tree["name"] == text and tree["model_name_or_path"] in (text, f"other {text}")
    assert [set(arm) for arm in tree["arms"].values()] == [{"checkpoints"}]
    assert not orders_in(re.sub(r"\\.", "", written))


def adapter(folder: Path) -> Path:
    import numpy as np
    from safetensors.numpy import save_file

    path = folder / "some.safetensors"
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file({name.format("A"): np.zeros((8, 32), "f4"), name.format("B"): np.zeros((32, 8), "f4")}, path)
    return path


def test_all_of_it_at_once(report: Path) -> None:
    assert ALL.split("\n")[0] not in (report / "methods.txt").read_text(encoding="utf-8")
    assert (report / "references.bib").read_text(encoding="utf-8").startswith("@")
