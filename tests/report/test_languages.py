"""A language is one file: nothing on the page comes from anywhere else, and languages stand side by side."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.pipeline import stages
from kiyas.pooling import Pooled, pool
from kiyas.report import charts, citations, drawing, language, pooled, tables
from kiyas.report.language import Language, languages, phrases
from kiyas.runfolder import manifests
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.stats.inference import Interval
from synthetic import make_run

HERE = Path(report.__file__).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("languages") / "run", steps=(60, 120), seeds=(0, 1), problems=8)


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return analyse(run)


@pytest.fixture(scope="module")
def replications(tmp_path_factory: pytest.TempPathFactory) -> Pooled:
    path = tmp_path_factory.mktemp("pooled") / "c.csv"
    rows = [f"s{n},{arm},{solved},41" for n in range(3) for arm, solved in (("deep", 12 + n), ("diverse", 20))]
    path.write_text("\n".join(["study,arm,solved,total", *rows]) + "\n", encoding="utf-8")
    return pool([path])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are files, but no pictures: drawing takes time and has no part in this."""
    blank = charts.Drawing("<svg/>", b"", b"")
    drawn = lambda made, _: {name: dataclasses.replace(chart, drawing=blank) for name, chart in made.items()}  # noqa: E731
    monkeypatch.setattr(drawing, "drawn", drawn)
    monkeypatch.setattr(drawing, "javascript", lambda _: "")


# -- side by side ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_no_language_overwrites_another(run: Path, found: Findings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run")) / "report"
    assert report.write(folder.parent, found) == folder / "index.html"

    def read() -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    english = read()
    assert not [name for name in english if ".tr." in name] and b"hreflang" not in english["index.html"]
    assert report.write(folder.parent, found, language="tr") == folder / "index.tr.html"
    both = read()
    more = both.keys() - english.keys()
    assert {"index.tr.html", "report.tr.md", "methods.tr.txt", "tables/results.tr.tex", "figures/pass.tr.pdf"} <= more
    assert all(".tr." in name for name in more) and not [name for name in more if name.endswith(".csv")]
    changed = {name for name in english if both[name] != english[name]}
    assert changed == {"index.html"}, "which now leads to the Turkish page"
    assert 'href="index.tr.html" lang="tr" hreflang="tr">Türkçe</a>' in both["index.html"].decode()
    assert 'href="index.html" lang="en" hreflang="en">English</a>' in both["index.tr.html"].decode()
    assert 'href="figures/pass.tr.svg"' in both["index.tr.html"].decode()
    assert "methods.tr.txt" in both["index.tr.html"].decode() and "results.tr.tex" in both["report.tr.md"].decode()
    report.write(folder.parent, found)
    assert read() == both, "a report is written again in every language that it has"


def test_the_same_numbers_in_every_language(found: Findings) -> None:
    english, turkish = (
        {name: table.csv() for name, table in tables.tables(found, Language(each)).items()} for each in ("en", "tr")
    )
    assert english == turkish and len(english) > 15


@pytest.mark.usefixtures("undrawn")
def test_verify_knows_the_files_of_every_language(run: Path, tmp_path: Path) -> None:
    folder = RunDir(Path(shutil.copytree(run, tmp_path / "run")))
    manifests.finish(folder, Stage.JUDGE, {}, {}, 0.0)
    _, page = stages.redraw(folder, "tr")
    assert page.name == "index.tr.html" and (folder.report / "index.html").exists()
    manifest = folder.manifest(Stage.REPORT)
    assert manifest is not None and manifest["inputs"]["language"] == "en"
    assert {"report/index.tr.html", "report/methods.tr.txt"} <= manifest["outputs"].keys()
    assert not [name for name in manifest["outputs"] if ".md" in name], "an author writes into these"
    with (folder.report / "report.tr.md").open("a") as file:
        file.write("mine\n")
    assert not list(manifests.damages(folder, whole=True))
    page.write_text("changed")
    assert [each.path for each in manifests.damages(folder, whole=True)] == [page]


@pytest.mark.usefixtures("undrawn")
def test_a_pooled_page_in_two_languages(replications: Pooled, tmp_path: Path) -> None:
    assert pooled.write(tmp_path, replications, language="tr") == tmp_path / "index.tr.html"
    assert pooled.write(tmp_path, replications).name == "index.html"
    names = {path.name for path in tmp_path.iterdir()}
    each = ("index{}.html", "pooled{}.md", "pooled{}.csv", "forest{}.svg", "forest{}.png", "forest{}.pdf")
    assert {name.format(end) for name in each for end in ("", ".tr")} == names
    turkish, english = ((tmp_path / name).read_text(encoding="utf-8") for name in ("index.tr.html", "index.html"))
    assert 'href="index.tr.html"' in english and 'href="index.html"' in turkish and "forest.tr.svg" in turkish
    assert "](forest.tr.svg)" in (tmp_path / "pooled.tr.md").read_text(encoding="utf-8")


# -- a third language -----------------------------------------------------------------------------------------


def strange(phrase: str) -> str:
    """The phrase in letters that no other text has; what is filled in, and what is cited, stays."""
    parts = re.split(r"(\{\w+:(?=\w+/)|\{[^}/]*\}|\[@[^]]*\])", phrase)
    return "".join(
        part if i % 2 else re.sub("[A-Za-z]", lambda found: chr(ord(found[0]) + 0xFEE0), part)
        for i, part in enumerate(parts)
    )


@pytest.fixture
def third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A made-up language: English in full-width letters, with other marks in its numbers. One file, no code."""
    folder = Path(shutil.copytree(HERE / "phrases", tmp_path / "phrases"))
    made: dict[str, dict[str, str]] = {}
    for key, phrase in phrases("en").items():
        section, _, name = key.partition(".")
        made.setdefault(section, {})[name] = strange(phrase)
    made["format"] |= {"decimal": "·", "group": "'", "percent": strange("per {n}"), "date": "{year}/{day}/{month}"}
    made["format"] |= {"points_interval": "{low} .. {high}", "share_interval": strange("per {low}..{high}")}
    lines = [
        line
        for section, keys in made.items()
        for line in (f"[{section}]", *(f"{json.dumps(key)} = {json.dumps(said)}" for key, said in keys.items()))
    ]
    (folder / "xx.toml").write_text("\n".join(lines), encoding="utf-8")
    caches = (language.languages, language._file, language.phrases, language._grammar)
    monkeypatch.setattr(language, "FOLDER", folder)
    for each in caches:
        each.cache_clear()
    yield "xx"
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


class _Said(HTMLParser):
    """What readers see, hear and are told by tooltips; charts too."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.said += [value or "" for key, value in attrs if key in ("title", "aria-label", "alt", "placeholder")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.said += [] if self._hidden else [data]


def chart_texts(spec: Any, key: str = "") -> Iterator[str]:
    """Titles, labels and data of a chart's definition."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            yield from chart_texts(value, key if key == "values" else name)
    elif isinstance(spec, list):
        for value in spec:
            yield from chart_texts(value, key)
    elif isinstance(spec, str) and key in ("title", "text", "values"):
        yield spec


OURS = {
    *("Kıyas", "deep", "diverse", "run", "practice", "Problem", "strong", "strict", "English", "last", "circle"),
    *("txt", "bib", "csv", "methods", "references"),
}
"""Names, files and codes."""
CITED = {author for authors, _ in citations.papers().values() for author in authors}


def words_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])[A-Za-z][a-zıçğöşü]+(?![\w.@-])", text)) - OURS


@pytest.mark.usefixtures("undrawn")
def test_a_third_language_costs_one_file(third: str, run: Path, found: Findings, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    page = report.write(copy, found, language=third).read_text(encoding="utf-8")
    said = _Said(page.split("<body>")[1])
    text = "\n".join(said.said)
    settings = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page)
    assert 'lang="xx"' in page and "ｐｒｏｂｌｅｍｓ" in text
    assert words_of(text) <= {word for pair in settings for part in pair for word in words_of(part)} | CITED
    made = charts.charts(found, Language(third))
    assert not words_of("\n".join(text for chart in made.values() for text in chart_texts(chart.spec)))
    paper = (copy / "report" / "report.xx.md").read_text(encoding="utf-8")
    assert (
        "2026/2/Ｊａｎｕａｒｙ" in paper and "ｐｅｒ " in paper and 'lang: "xx"' in paper and "[@wilson1927]" in paper
    )
    terminal = report.text(found, language=third)
    assert "ｐｒｏｂｌｅｍｓ" in terminal and not words_of(terminal)
    assert re.search(r"ｐｅｒ \d+·\d", terminal) and re.search(r"[+−]\d+·\d\s\.\.\s[+−]\d", terminal)


@pytest.mark.usefixtures("undrawn")
def test_a_pooled_page_in_a_third_language(third: str, replications: Pooled, tmp_path: Path) -> None:
    page = pooled.write(tmp_path / "out", replications, language=third).read_text(encoding="utf-8")
    assert not words_of("\n".join(_Said(page.split("<body>")[1]).said))
    assert not words_of(pooled.text(replications, language=third))


# -- Turkish --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "endings"),
    [
        ("deep", ("deep'i", "deep'e", "deep'te", "deep'ten", "deep'in")),
        ("diverse", ("diverse'yi", "diverse'ye", "diverse'de", "diverse'den", "diverse'nin")),
        ("mono", ("mono'yu", "mono'ya", "mono'da", "mono'dan", "mono'nun")),
        ("GPT", ("GPT'yi", "GPT'ye", "GPT'de", "GPT'den", "GPT'nin")),
        ("İZMİR", ("İZMİR'i", "İZMİR'e", "İZMİR'de", "İZMİR'den", "İZMİR'in")),
        ("taban model", ("taban modeli", "taban modele", "taban modelde", "taban modelden", "taban modelin")),
        ("4", ("4'ü", "4'e", "4'te", "4'ten", "4'ün")),
        ("6", ("6'yı", "6'ya", "6'da", "6'dan", "6'nın")),
        ("10", ("10'u", "10'a", "10'da", "10'dan", "10'un")),
        ("300", ("300'ü", "300'e", "300'de", "300'den", "300'ün")),
        ("20.000", ("20.000'i", "20.000'e", "20.000'de", "20.000'den", "20.000'in")),
        ("%40,3", ("%40,3'ü", "%40,3'e", "%40,3'te", "%40,3'ten", "%40,3'ün")),
        ("%30,0", ("%30,0'ı", "%30,0'a", "%30,0'da", "%30,0'dan", "%30,0'ın")),
        ("a (b)", ("a (b)'yi", "a (b)'ye", "a (b)'de", "a (b)'den", "a (b)'nin")),
    ],
)
def test_endings_follow_the_sound_of_the_word(
    word: str, endings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("acc", "dat", "loc", "abl", "gen")
    monkeypatch.setattr(language, "phrases", lambda _: {f"x.{kind}": f"{{word:{kind}}}" for kind in kinds})
    assert tuple(Language("tr")(f"x.{kind}", word=word) for kind in kinds) == endings


@pytest.mark.parametrize(
    ("n", "english", "turkish"),
    [
        (999, "999", "999"),
        (52_362, "52.4\u00a0k", "52,4\u00a0bin"),
        (366_816, "367\u00a0k", "367\u00a0bin"),
        (1_540_000, "1.54\u00a0M", "1,54\u00a0milyon"),
        (7_620_000_000, "7.62\u00a0G", "7,62\u00a0milyar"),
    ],
)
def test_large_counts_have_the_units_of_the_language(n: int, english: str, turkish: str) -> None:
    assert (Language("en").size(n), Language("tr").size(n)) == (english, turkish)


def test_the_intervals_of_a_language_have_one_style() -> None:
    share, points = Interval(0.138, 0.393), Interval(-0.045, 0.247)
    turkish = Language("tr")
    assert turkish.share_interval(share) == "[%13,8;\u00a0%39,3]"
    assert turkish.points_interval(points) == "[−4,5;\u00a0+24,7]"
    assert turkish.estimate(turkish.percent(0.244), turkish.share_interval(share)).count("(") == 0


def test_every_ending_is_one_of_the_language() -> None:
    """And the page's script, which fills some phrases itself, knows none."""
    for name in languages():
        known = language._grammar(name).endings.keys()
        for key, phrase in phrases(name).items():
            asked = set(re.findall(r"\{\w+:([^}]*)\}", phrase))
            endings = {each for each in asked if "/" not in each and each != "="}
            assert endings <= known and not (asked and key.startswith(("grid.", "verdict."))), (name, key)


ENGLISH = re.compile(
    r"\b(the|of|and|is|are|was|were|with|not|for|to|from|that|these|this|problems|steps?|seeds?|solved|answers?|share|"
    r"missing|wrong|mean|interval|difference|loss|training|validation|checkpoints?|chosen|figure|table|by|at|no|run)\b"
)


def test_nothing_is_left_in_english() -> None:
    for key, phrase in phrases("tr").items():
        said = re.sub(r"\{[^}]*\}|\[@[^]]*\]|\w+/[\w./]*|\w+\.(json|csv|jsonl|toml)", "", phrase)
        assert not ENGLISH.findall(said), key
