"""The report's files: complete, offline, safe, and saying only what was found."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import hashlib
import io
import json
import random
import re
import string
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import kiyas.analyse
from kiyas import report
from kiyas.analyse import Decision, Findings, analyse
from kiyas.report import sentences, tables
from kiyas.report.grid import chosen_columns, partner
from kiyas.report.language import Language, languages, phrases
from kiyas.report.payload import JUDGMENTS, chunks, script_json
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError
from synthetic import HOSTILE, make_run


class Page(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.policy = ""
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.handlers += [name for name in values if name.startswith("on")]
        self.loads += [v for k in ("src", "srcset", "data") if (v := values.get(k))]
        if tag == "link" and values.get("href"):
            self.loads.append(str(values["href"]))
        if tag == "a":
            self.links.append(str(values.get("href")))
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])
        if tag == "script":
            self._script = values
            self.scripts.append((values, ""))

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None


def opened(page: Page) -> list[dict[str, Any]]:
    """The chunks of a page, one a problem, as its script reads them."""
    return [unpacked(json.loads(text)) for values, text in page.scripts if str(values.get("id")).startswith("chunk-")]


def samples(problem: Any) -> list[list[dict[str, Any]]]:
    """The samples of each checkpoint."""
    return [[problem["samples"][n] for n in cell] for cell in problem["cells"]]


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text))) if text else None


@pytest.fixture(scope="session")
def page(written: Path) -> Page:
    return Page((written / "report" / "index.html").read_text(encoding="utf-8"))


def test_all_files_are_there(written: Path) -> None:
    folder = written / "report"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"index.html", "report.md", "figures/pass.svg", "figures/pass.png", "figures/differences.svg"} <= found
    assert {"methods.txt", "references.bib"} <= found
    assert {"figures/loss-deep.svg", "tables/results.csv", "tables/grid.csv", "tables/losses.csv"} <= found
    assert (folder / "figures" / "pass.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "figures" / "pass.svg").read_text()
    assert not [name for name in found if name.endswith(".tmp")]


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(page: Page) -> None:
    assert all(load.startswith("data:") for load in page.loads)
    assert not page.handlers
    assert all(re.match(r"#|tables/|figures/|methods.txt$|references.bib$", link) for link in page.links)
    assert "default-src 'none'" in page.policy and "unsafe-eval" not in page.policy
    scripts_allowed = page.policy.split("script-src")[1]
    assert "unsafe-inline" not in scripts_allowed
    running = [text for values, text in page.scripts if values.get("type") != "application/json"]
    assert len(running) == 2 and len(page.scripts) == 3 + 41
    for text in running:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in scripts_allowed


def test_hostile_texts_stay_texts(written: Path, page: Page) -> None:
    html = (written / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>window.hacked" not in html and "<img src=x" not in html
    assert "div<b>x</b>" not in html and "<i>Problem" not in html
    found = [sample for problem in opened(page) for cell in samples(problem) for sample in cell]
    assert len(found) == 41 * 25 and all(sample["program"].startswith(HOSTILE) for sample in found)
    failing = [each for sample in found for each in sample["failing"]]
    assert failing and all(HOSTILE in each["got"] for each in failing)
    assert "<b>x" not in (written / "report" / "report.md").read_text()


def test_behaviour_is_told_and_hostile_names_in_it_stay_texts(written: Path) -> None:
    html = (written / "report" / "index.html").read_text(encoding="utf-8")
    markdown = (written / "report" / "report.md").read_text(encoding="utf-8")
    behaviour = html[html.index('<section id="behaviour">') : html.index('<section id="method">')]
    assert "The conclusion uses none of it" in behaviour and "Copying is unknown for div&lt;b&gt;x" in behaviour
    assert behaviour.count("&lt;/script&gt;&lt;script&gt;window.hacked") >= 3  # an exception, a tag, a training row
    assert '<tr class="dim">' in behaviour and "(few)" in behaviour
    assert "<script>window.hacked" not in markdown and "## Who fails which problems" in markdown
    names = {path.stem for path in (written / "report" / "tables").iterdir()}
    assert {
        "lost_and_gained",
        "stuck",
        "failures",
        "sharing",
        "shared",
        "groups",
        "diversity",
        "copying",
        "copied",
    } - names == {"diversity"}
    assert "It is unknown how different the programs are" in behaviour
    assert "the benchmark's own" in markdown


@pytest.mark.parametrize("text", [HOSTILE, "\u2028\u2029", "<!--<script>", "]]>", "\ud800", "&lt;", "\\u003c/script>"])
def test_script_json_round_trip(text: str) -> None:
    written = script_json({"x": text})
    assert not set(written) & set("<>&\u2028\u2029")
    written.encode("utf-8")
    assert json.loads(written)["x"].replace("?", "\ud800") == text.replace("?", "\ud800")


def test_tables_as_csv(written: Path) -> None:
    findings = analyse(written)
    with (written / "report" / "tables" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["base"] + ["deep"] * 3 + ["div<b>x</b>"] * 3
    mean = next(row for row in rows if row["arm"] == "deep" and row["seed"] == "mean")
    assert float(mean["pass1"]) == pytest.approx(findings.results[1].mean, abs=1e-6)
    with (written / "report" / "tables" / "grid.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 41
    with (written / "report" / "tables" / "readings.csv").open(newline="") as file:
        assert {row["turned"] for row in csv.DictReader(file)} <= {"True", "False"}


def test_what_the_base_solved_and_an_arm_lost_is_listed(tmp_path: Path) -> None:
    def only_base(row: dict[str, Any]) -> dict[str, Any]:
        late = (row["arm"], row["step"], row["problem_id"]) == ("deep", 60, "p002")
        right = late or (row["arm"] == "base" and row["problem_id"] in ("p001", "p002"))
        return {**row, "verdict": "AC" if right else "WA"}

    run = make_run(tmp_path / "run", seeds=(0,), steps=(60, 120), problems=4, change=only_base)
    findings = analyse(run)
    table = tables.tables(findings, Language("en"))["forgotten"]
    assert [(row["arm"], row["problem"], row["last_solved"]) for row in table.shown] == [
        ("deep", "p001", "base"),
        ("deep", "p002", "step 60"),
        ("diverse", "p001", "base"),
        ("diverse", "p002", "base"),
    ]
    assert [row["last_solved_step"] for row in table.raw] == [0, 60, 0, 0]
    patterns = tables.tables(findings, Language("en"))["trajectories"].raw
    assert {(row["arm"], row["problem"]) for row in patterns if row["pattern"] == "forgotten"} == {
        (arm, problem) for arm in ("deep", "diverse") for problem in ("p001", "p002")
    }
    assert len(patterns) == 2 * 4
    lost = [row["forgotten"] for row in tables.tables(findings, Language("en"))["stability"].shown]
    assert lost == ["2 (shuffled 1.0)", "2 (shuffled 1.3)"]
    html = report.write(run, findings).read_text(encoding="utf-8")
    assert "Lost problems (4)" in html and "from the base" in html


def test_csv_does_not_hold_formulas() -> None:
    table = tables.Table("t", "T", (("a", "A"),), ({"a": "x"},), ({"a": "=1+1"}, {"a": -0.5}, {"a": None}))
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a"], ["'=1+1"], ["-0.5"], [""]]


def test_text_for_the_terminal(written: Path) -> None:
    findings = analyse(written)
    text = report.text(findings)
    assert "deep" in text and "Conclusion" in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b[" in report.text(findings, color=True)
    narrow = report.text(findings, width=70)
    assert max(map(len, narrow.splitlines())) <= 70
    evil = dataclasses.replace(findings, name="a\x1b]0;owned\x07b", notes=("x\x1b[2J",))
    assert "\x1b" not in report.text(evil)


@pytest.fixture(scope="module")
def every_decision(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    tmp_path = tmp_path_factory.mktemp("decisions")
    lost = lambda row: None if row["problem_id"] == "p001" else row  # noqa: E731
    runs = {
        "more": make_run(tmp_path / "more", rates={"a": 0.15, "b": 0.8}),
        "less": make_run(tmp_path / "less", rates={"a": 0.8, "b": 0.15}, seeds=(0,)),
        "equivalent": make_run(tmp_path / "same", rates={"a": 0.4, "b": 0.4}, compare={"matters": 0.45}),
        "undecided": make_run(tmp_path / "open", rates={"a": 0.3, "b": 0.36}, seeds=(0,)),
        "owed": make_run(tmp_path / "owed", change=lost),
        "none": make_run(tmp_path / "none", rates={"a": 0.4}, base=False),
    }
    return {name: analyse(run) for name, run in runs.items()}


@pytest.mark.parametrize("language", languages())
def test_words_follow_numbers(every_decision: dict[str, Findings], language: str) -> None:
    words = Language(language)
    for name, findings in every_decision.items():
        found = sentences.conclusion(findings, words)
        assert found.decision == name
        said = " ".join((found.sentence, *found.more))
        assert not re.search(r"proven|kanıtlan", said, re.IGNORECASE)
        assert "{" not in said and "nan" not in said.lower().split()
        primary = findings.primary
        if language == "en":
            more = "solves more of" in said or "solves more than" in said
            assert more == (name in ("more", "less")), said
            if name == "less":
                assert found.sentence.startswith("Of these two adapters, a (step 120) solves more than b")
            if primary is not None and name != "owed":
                assert ("two adapters" in said) == (primary.method == "pair")
        assert report.text(findings, language=language)


@pytest.mark.parametrize(
    ("primary", "absent", "said"),
    [
        (["base", "diverse"], ["diverse"], ("base and diverse", "no verdicts for diverse.")),
        (["deep", "diverse"], ["diverse"], ("deep and diverse", "no verdicts for diverse.")),
        (["deep", "diverse"], ["deep", "diverse"], ("no verdicts for deep, diverse.",)),
        (["base", "diverse"], ["base"], ("base and diverse", "no verdicts for base.")),
        (["base", "diverse"], ["base", "deep"], ("Only one arm was judged and the base was not",)),
    ],
)
def test_what_is_not_judged_yet_is_named(
    tmp_path: Path, primary: list[str], absent: list[str], said: tuple[str, ...]
) -> None:
    gone = lambda row: None if row["arm"] in absent else row  # noqa: E731
    findings = analyse(make_run(tmp_path / "run", steps=(60,), problems=6, compare={"primary": primary}, change=gone))
    found = sentences.conclusion(findings, Language("en"))
    assert found.decision == "none" and all(part in found.sentence for part in said), found.sentence
    assert said[0] in report.text(findings, width=400)
    turkish = sentences.conclusion(findings, Language("tr")).sentence
    assert "değerlendir" in turkish and "{" not in turkish and "base" not in turkish


def test_only_the_base_was_judged(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(60,), problems=6, change=lambda r: r if r["arm"] == "base" else None)
    resolved = json.loads((run / "resolved.json").read_text())
    resolved["study"] = None
    (run / "resolved.json").write_text(json.dumps(resolved))
    (run / "train" / "log.jsonl").unlink()
    assert sentences.conclusion(analyse(run), Language("en")).sentence.startswith("Only the base was judged")


def test_a_single_seed_never_speaks_of_the_data(tmp_path: Path) -> None:
    findings = analyse(make_run(tmp_path / "run", rates={"a": 0.1, "b": 0.9}, seeds=(0,)))
    found = sentences.conclusion(findings, Language("en"))
    assert findings.primary is not None and findings.primary.decision is Decision.MORE
    assert "these two adapters" in found.sentence and "trained on" not in found.sentence.lower()


def fields(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name}


@pytest.mark.parametrize("language", languages())
def test_no_phrase_is_missing(language: str) -> None:
    english, other = phrases("en"), phrases(language)
    assert english.keys() == other.keys()
    for key, phrase in english.items():
        assert other[key].strip(), key
        assert fields(other[key]) == fields(phrase), key
    if language != "en":
        same = [k for k in english if english[k] == other[k] and len(english[k]) > 12 and not fields(english[k])]
        assert not same


def test_every_phrase_asked_for_exists() -> None:
    """Keys in the code, the template and the script, and every code of the checklist."""
    known = phrases("en").keys()
    package = Path(report.__file__).parent
    sources = [path for path in package.glob("*.py") if path.name != "language.py"]
    for path in [*sources, *(package / "assets").iterdir()]:
        text = path.read_text(encoding="utf-8")
        for key in re.findall(r"\bw(?:ords)?\(\s*\"([a-z_]+\.[A-Za-z_0-9]+)\"\s*[,)]", text):
            assert key in known, f"{path.name}: {key}"
    room = Path(kiyas.analyse.__file__).parent
    text = "".join((room / name).read_text(encoding="utf-8") for name in ("checklist.py", "provenance.py"))
    codes = set(re.findall(r"Remark\(\s*\"(\w+)\"", text))
    assert len(codes) > 25
    for code in codes:
        assert f"remark.{code}" in known, code


def test_numbers_in_both_languages() -> None:
    english, turkish = Language("en"), Language("tr") if "tr" in languages() else None
    assert english.percent(0.3171) == "31.7%"
    assert english.points(-0.024) == "−2.4" and english.points(0.1) == "+10.0" and english.points(0) == "0.0"
    assert english.points(-0.00001) == "0.0"
    assert english.p(0.0000001) == "< 0.001" and english.p(None) == "–"
    assert english.percent(float("nan")) == "–"
    if turkish:
        assert turkish.percent(0.3171) == "%31,7" and turkish.points(-0.024) == "−2,4"
    with pytest.raises(KiyasError, match="no report in language"):
        phrases("xx")


def test_turkish_page(tmp_path: Path) -> None:
    if "tr" not in languages():
        pytest.skip("no Turkish phrases")
    run = make_run(tmp_path / "run", steps=(60, 120), problems=6)
    html = report.write(run, analyse(run), language="tr").read_text(encoding="utf-8")
    assert '<html lang="tr">' in html and "Sonuç" in html


def test_training_only_and_verdicts_only(tmp_path: Path) -> None:
    only_log = make_run(tmp_path / "log", problems=3)
    (only_log / "judge" / "judgments.jsonl").unlink()
    text = report.write(only_log, analyse(only_log)).read_text(encoding="utf-8")
    assert "No program was judged" in text
    assert not any(f'<section id="{name}">' in text for name in ("results", "problems", "behaviour"))
    assert 'href="#problems"' not in text and "error analysis" not in (only_log / "report" / "report.md").read_text()
    only_verdicts = make_run(tmp_path / "verdicts", problems=3)
    (only_verdicts / "train" / "log.jsonl").unlink()
    text = report.write(only_verdicts, analyse(only_verdicts)).read_text(encoding="utf-8")
    assert '<section id="loss">' not in text and 'href="#loss"' not in text


def test_long_texts_are_cut_and_say_where_they_are_whole(tmp_path: Path) -> None:
    def long(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "tests": [{"verdict": "WA", "got": "y" * 9000, "stderr": "z" * 9000}] * 2, "verdict": "WA"}

    run = make_run(tmp_path / "run", steps=(120,), seeds=(0,), problems=3, change=long)
    benchmark = read_jsonl(RunDir(run).problems)
    write_jsonl(RunDir(run).problems, [{**row, "statement": "s" * 9000} for row in benchmark])
    found = opened(Page(report.write(run, analyse(run)).read_text(encoding="utf-8")))
    failing = samples(found[1])[1][0]["failing"]
    assert failing == [
        {"n": 1, "v": "WA", "got": ["y" * 2048, JUDGMENTS], "error": ["z" * 2048, JUDGMENTS]},
        {"n": 2, "v": "WA", "got": ["y" * 512, JUDGMENTS], "error": ["z" * 512, JUDGMENTS]},
    ]
    assert found[1]["statement"] == ["s" * 8192, "data/problems.jsonl"]


def test_what_does_not_fit_is_cut_from_the_longest_texts(tmp_path: Path) -> None:
    rng = random.Random(0)

    def incompressible(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "program": rng.randbytes(6000 if row["problem_id"] == "p000" else 400).hex()}

    run = make_run(tmp_path / "run", steps=(120,), seeds=(0,), problems=6, change=incompressible)
    findings, whole = (
        analyse(run),
        {(r["problem_id"], r["arm"]): r["program"] for r in read_jsonl(RunDir(run).judgments)},
    )

    chosen = chosen_columns(findings)

    def programs(room: int) -> dict[tuple[str, str], Any]:
        made = chunks(run, findings, chosen, room)
        assert sum(map(len, made)) <= room
        return {
            (row.problem, adapter.arm): cell[0]["program"]
            for row, text in zip(findings.grid, made, strict=True)
            for adapter, cell in zip(findings.columns, samples(unpacked(text)), strict=True)
        }

    assert programs(10**6) == whole
    cut = programs(30_000)
    for key, program in cut.items():
        if key[0] == "p000":
            kept, file = program
            assert whole[key].startswith(kept) and 800 <= len(kept) < 12_000 and file == JUDGMENTS
        else:
            assert program == whole[key]
    assert chunks(run, findings, chosen, 1000) == [""] * 6


def test_the_page_keeps_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    change = lambda row: {**row, "program": rng.randbytes(6000).hex()}  # noqa: E731
    run = make_run(tmp_path / "run", steps=(120,), seeds=(0,), problems=6, change=change)
    (run / "train" / "log.jsonl").unlink()
    findings = analyse(run)
    size = report.write(run, findings).stat().st_size
    for most in (size - 1, size - 60_000):
        monkeypatch.setattr("kiyas.report.page.MOST_BYTES", most)
        assert report.write(run, findings).stat().st_size <= most
    monkeypatch.setattr("kiyas.report.page.MOST_BYTES", 1000)
    assert opened(Page(report.write(run, findings).read_text(encoding="utf-8"))) == [None] * 6


def test_what_stands_beside_a_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rates={"a": 0.3, "b": 0.4, "c": 0.4}, seeds=(0, 1), steps=(60, 120), problems=4)
    findings = analyse(run)
    column = {str(adapter): j for j, adapter in enumerate(findings.columns)}
    for one, beside in {
        "a/seed-1/step-000120": "b/seed-1/step-000120",
        "b/seed-0/step-000060": "a/seed-0/step-000060",
        "c/seed-1/step-000060": "base",
        "base": "a/seed-0/step-000120",
    }.items():
        assert partner(findings, findings.columns[column[one]]) == column[beside]
    assert partner(dataclasses.replace(findings, columns=findings.columns[:1]), findings.columns[0]) is None
