"""report.md in pandoc, and the LaTeX tables: what docs/report.md promises of Word, HTML and LaTeX."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kiyas.analyse import Findings, analyse
from kiyas.report import charts, markdown, methods, tables
from kiyas.report.language import Language
from kiyas.report.quoting import latex
from kiyas.report.table import Table
from synthetic import HOSTILE

pandoc = pytest.mark.skipif(shutil.which("pandoc") is None, reason="pandoc is not installed")
GUIDE = Path(__file__).parents[2] / "docs" / "report.md"


def commands() -> Mapping[str, str]:
    """The guide's commands by what they write."""
    lines = re.findall(r"^(?:pandoc|sed) .* -o .*$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    return {line.rpartition(".")[2]: line for line in lines}


@pytest.fixture(scope="module")
def exported(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """What the guide's commands make of a report full of hostile names."""
    folder = tmp_path_factory.mktemp("paper")
    made = {}
    for kind, command in commands().items():
        strict = command.replace("pandoc ", "pandoc --fail-if-warnings ")
        made[kind] = folder / f"report.{kind}"
        strict = strict.replace(f"-o report.{kind}", f"-o {made[kind]}")
        done = subprocess.run(["bash", "-c", strict], cwd=written / "report", capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command
    return made


@pytest.fixture(scope="module")
def found(written: Path) -> Findings:
    return analyse(written)


class _Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.said, self.anchors, self.links, self.pictures = "", set[str](), list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.anchors.add(given.get("id", ""))
        self.links += [given["href"]] if tag == "a" else []
        self.pictures += [given["src"]] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.said += data


@pandoc
def test_the_html_is_a_whole_paper(exported: Mapping[str, Path], written: Path) -> None:
    text = exported["html"].read_text(encoding="utf-8")
    page = _Text(text.split("<body>")[1])
    assert "<title>hostile: which training data" in text and 'class="title"' in text and 'lang="en"' in text
    assert "2 January 2026" in page.said and "References" in page.said and "???" not in page.said
    assert "kiyas:" not in text and "<!--" not in text.split("<body>")[1], "no marker and no word to the author"
    assert "you write" not in page.said and "[@" not in page.said and "{" not in page.said.replace("{{7*7}}", "")
    figures = len(list((written / "report" / "figures").glob("*.png")))
    assert len(page.pictures) == figures and all(src.startswith("data:image/png;base64,") for src in page.pictures)
    captions = re.findall(r"\n(Figure|Table) (\d+)\. ", page.said)
    shown = len(list((written / "report" / "tables").glob("*.tex")))
    assert [n for kind, n in captions if kind == "Figure"] == [str(n + 1) for n in range(figures)]
    assert [n for kind, n in captions if kind == "Table"] == [str(n + 1) for n in range(shown)]
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= page.anchors
    assert {f"figure-{n + 1}" for n in range(figures)} | {f"table-{n + 1}" for n in range(shown)} <= inside
    assert any(link.startswith("#ref-wilson1927") for link in page.links), "a citation leads to its entry"
    assert "Probable Inference" in page.said and "Chen et al. (2021)" not in page.said
    assert "div<b>x</b>" in page.said and HOSTILE.split("\u2028")[0] in " ".join(page.said.split()), (
        "names are read as they are written"
    )


@pandoc
def test_the_document_for_word_is_a_whole_paper(exported: Mapping[str, Path], written: Path) -> None:
    with zipfile.ZipFile(exported["docx"]) as file:
        xml = file.read("word/document.xml").decode("utf-8")
        pictures = [name for name in file.namelist() if name.startswith("word/media/")]
    assert len(pictures) == len(list((written / "report" / "figures").glob("*.png")))
    said = "".join(re.findall(r"<w:t(?: [^>]*)?>([^<]*)", xml))
    assert 'w:val="Title"' in xml and "which training data" in said and "kiyas:" not in said
    marks = set(re.findall(r'<w:bookmarkStart[^>]*w:name="([^"]+)"', xml))
    wanted = set(re.findall(r'<w:hyperlink[^>]*w:anchor="([^"]+)"', xml))
    assert "figure-1" in wanted and "ref-wilson1927" in wanted and wanted <= marks


@pandoc
def test_latex_takes_the_figures_as_pdf(exported: Mapping[str, Path], written: Path) -> None:
    text = exported["tex"].read_text(encoding="utf-8")
    figures = re.findall(r"includegraphics(?:\[[^]]*\])?\{([^}]+)\}", text)
    assert figures and all((written / "report" / name).read_bytes().startswith(b"%PDF") for name in figures)
    assert r"\title{hostile" in text and r"\begin{figure}" not in text, "else LaTeX would number figures once more"


def cells(text: str) -> list[list[list[str]]]:
    """What pandoc reads in LaTeX tables: table, row, cell."""
    done = subprocess.run(["pandoc", "-f", "latex", "-t", "html"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [
        [
            [_Text(cell).said for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table>(.*?)</table>", done.stdout, re.DOTALL)
    ]


@pandoc
def test_a_latex_table_says_what_the_table_says(written: Path, found: Findings) -> None:
    made = tables.tables(found, Language("en")).values()
    shown = [table for table in made if table.columns and table.shown]
    text = "\n\n".join((written / "report" / "tables" / f"{table.name}.tex").read_text() for table in shown)
    plain = lambda text: re.sub(r"\s+", " ", text.replace("\u2028", "\ufffd").replace("•", "●")).strip()  # noqa: E731
    read = cells(text)
    assert len(read) == len(shown) > 10
    for table, rows in zip(shown, read, strict=True):
        said = [[plain(title) for _, title in table.columns]]
        said += [[plain(row[key]) for key, _ in table.columns] for row in table.shown]
        assert [[plain(cell) for cell in row] for row in rows] == said, table.name
    assert "−" not in text and r"\%" in text and r"\textbf{" in text


HARD = ("[x]", "*", "a & b", "50% #1 $x$ _y_ {z}", r"\\", r"\input{/etc/passwd}", "~^'\"", "--- ", "x\ny", "<|>")


@pandoc
def test_no_name_is_a_command_of_latex() -> None:
    table = Table("t", "% \n\\end{tabular}", (("a", "A"),), tuple({"a": text} for text in HARD), ())
    (rows,) = cells(table.latex())
    quotes = str.maketrans("’”‘“", "'\"''")
    assert [row[0].translate(quotes).split() for row in rows[1:]] == [text.split() for text in HARD]
    assert latex("−2.4 × 3 ● ✓") == r"$-$2.4 $\times$ 3 $\bullet$ $\checkmark$"


@pandoc
def test_names_that_look_like_markup_stay_names(written: Path, found: Findings) -> None:
    """In the title block, in headings, in text and in cells."""
    names = {"deep": "@nobody {#x} $a$ ^b^ [@nobody] 1. ---", "div<b>x</b>": 'Table: "x": [y](z) \\'}
    said = json.dumps(found.to_json(), ensure_ascii=False)
    for old, new in names.items():
        said = said.replace(json.dumps(old, ensure_ascii=False)[1:-1], json.dumps(new, ensure_ascii=False)[1:-1])
    findings = dataclasses.replace(Findings.from_json(json.loads(said)), name=names["deep"])
    words = Language("tr", paper=True)
    made_charts = {name: chart for name, chart in charts.charts(findings, words).items() if chart.arm}
    paper = markdown.render(findings, words, tables.tables(findings, words), made_charts, ())
    paper = paper.replace("references.bib", str(written / "report" / "references.bib"))
    done = subprocess.run(
        ["pandoc", "--citeproc", "--standalone", "--fail-if-warnings", "-t", "html"],
        input=paper, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    page = _Text(done.stdout)
    for name in names.values():
        assert page.said.count(name.replace('"', "”").replace(" ”", " “")) > 2, name
    assert "x" not in page.anchors and "math inline" not in done.stdout


def test_an_import_without_training_has_no_empty_section(written: Path, found: Findings) -> None:
    findings = dataclasses.replace(found, curves=())
    words = Language("en")
    made = {name: table for name, table in tables.tables(findings, words).items() if table.chapter != "training"}
    text = markdown.render(findings, words, made, {}, methods.paragraphs(written, findings, words))
    assert words("document.training") not in text and "# 2. Benchmark results" in text
    nothing = dataclasses.replace(findings, grid=(), results=(), notes=())
    bare = markdown.render(nothing, words, {}, {}, ())
    assert words("page.no_verdicts") in bare and words("document.errors") not in bare
