"""report.md, the methods and the figures for a paper: complete, in both languages, and the author's text survives."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas import report
from kiyas.analyse import Findings, analyse
from kiyas.analyse.findings import LearningRatePoint
from kiyas.report import author_blocks, charts, citations, markdown, methods, quoting, tables, terminal
from kiyas.report.language import Language, languages, phrases
from kiyas.runfolder.manifests import finish
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import HUB_BENCHMARKS, Study
from synthetic import make_run

GONE = "\n## Gone\n\nMoved.\n\n"
TEXT = b"""### My reading, "as written" | with *markup*\r
\r
The gap opens at step 60.  \t
```python
<!-- kiyas:end -->
# not a heading
```
~~~~ text
<!-- kiyas:author results -->
~~~
<!-- kiyas:made 0 -->
~~~~

| a | b |
|---|---|
"""


def made(*names: str, said: str = "Said") -> str:
    return f"# Title\n\n{said}.\n\n" + "".join(f"## {name}\n\n{author_blocks.block(name)}\n\n" for name in names)


def put(old: bytes, name: str, body: bytes) -> bytes:
    marker = f"<!-- kiyas:author {name} -->\n".encode()
    assert old.count(marker + author_blocks.EMPTY) == 1
    return old.replace(marker + author_blocks.EMPTY, marker + body)


def fresh(*names: str, said: str = "Said") -> bytes:
    return author_blocks.merge(made(*names, said=said), b"", GONE)[0]


# -- the author's text ----------------------------------------------------------------------------------------

LINES = [b"<!-- kiyas:end -->", b"<!-- kiyas:author results -->", b"<!-- kiyas:author x -->", b"```", b"```py", b"~~~~"]
LINES += [b"# Heading", b"| a | b |", b"", b"  ", b"<!-- kiyas:made " + b"0" * 64 + b" -->", b"\xff\xfe", b"a ``` b"]
ends = st.sampled_from([b"\n", b"\r\n"])


def harmless(line: bytes) -> bool:
    return not re.match(rb" {0,3}(```|~~~)|<!-- kiyas:(author|end)", line)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12).map(str.encode).filter(harmless)
plain_lines = st.tuples(texts | st.sampled_from([line for line in LINES if harmless(line)]), ends).map(b"".join)
inner = st.tuples(st.sampled_from([line for line in LINES if line != b"```"]), ends).map(b"".join)
code = st.tuples(ends, st.lists(inner, max_size=4), ends).map(lambda t: b"```" + t[0] + b"".join(t[1]) + b"```" + t[2])
bodies = st.lists(plain_lines | code, max_size=6).map(b"".join)
anything = st.lists(st.tuples(st.sampled_from(LINES) | texts, ends).map(b"".join), max_size=8).map(b"".join)


@given(bodies, bodies)
@settings(max_examples=80, deadline=None)
def test_the_authors_text_comes_back_byte_for_byte(first: bytes, second: bytes) -> None:
    old = put(put(fresh("training", "results"), "results", second), "training", first)
    new, sound = author_blocks.merge(made("training", "results", said="Other numbers"), old, GONE)
    assert sound
    expected = fresh("training", "results", said="Other numbers")
    for name, body in (("results", second), ("training", first)):
        expected = put(expected, name, body) if body.strip() else expected
    assert new == expected
    assert author_blocks.merge(made("training", "results", said="Other numbers"), new, GONE) == (new, True)


@given(anything)
@settings(max_examples=80, deadline=None)
def test_whatever_was_written_is_in_the_new_file_or_the_old_one_is_kept(body: bytes) -> None:
    new, sound = author_blocks.merge(
        made("training", "results"), put(fresh("training", "results"), "training", body), GONE
    )
    assert not sound or body.strip() in new
    assert author_blocks.merge(made("training", "results"), new, GONE) == (new, True)


def test_an_open_fence_hides_no_marker() -> None:
    old = put(fresh("training", "results"), "training", b"```python\nnever closed\n")
    new, sound = author_blocks.merge(made("training", "results"), put(old, "results", b"mine\n"), GONE)
    assert sound and new == put(old, "results", b"mine\n")


def test_a_text_whose_place_is_gone_moves_to_the_end_and_back() -> None:
    old = put(fresh("training", "loss-deep"), "loss-deep", TEXT)
    moved, sound = author_blocks.merge(made("training"), old, GONE)
    assert sound and TEXT in moved and moved.index(b"Moved.") < moved.index(TEXT)
    assert author_blocks.merge(made("training"), moved, GONE) == (moved, True)
    assert author_blocks.merge(made("training", "loss-deep"), moved, GONE) == (old, True)


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        (lambda old: old.replace(b"\n", b"\r\n"), True),
        (lambda old: b"\xef\xbb\xbf" + old, True),
        (lambda old: old.replace(b"Said.", b"Said by me."), False),
        (lambda old: old.replace(b"<!-- kiyas:end -->", b"<!-- kiyas:edn -->", 1), False),
        (lambda old: old.replace(b"author results", b"author"), False),
        (lambda old: re.sub(rb"<!-- kiyas:made .*", b"", old), False),
        (lambda old: old + b"An afterthought.\n", False),
    ],
)
def test_what_is_changed_outside_the_blocks_is_found(change: Any, sound: bool) -> None:
    old = put(put(fresh("training", "results"), "training", b"one\n"), "results", b"two\n")
    assert author_blocks.merge(made("training", "results"), change(old), GONE)[1] is sound


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("document") / "run", steps=(60, 120), seeds=(0, 1), problems=8)


def test_report_md_survives_writing_and_a_damaged_one_is_kept(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "charts", lambda *_: {})  # which take time and have no part in this
    findings, path = analyse(small), small / "report" / "report.md"
    report.write(small, findings)
    mine = put(put(path.read_bytes(), "training", TEXT), "conclusion", TEXT)
    path.write_bytes(mine)
    report.write(small, findings, language="tr")
    other = small / "report" / "report.tr.md"
    turkish = put(other.read_bytes(), "results", TEXT)
    assert path.read_bytes() == mine and "# 2. Eğitim analizi" in turkish.decode()
    other.write_bytes(turkish)
    RunDir(small).drop(Stage.REPORT)
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == {path.name: mine, other.name: turkish}
    report.write(small, findings)
    assert (path.read_bytes(), other.read_bytes()) == (mine, turkish) and capsys.readouterr().err == ""
    for number in ("", "2"):
        path.write_bytes(mine.replace(b"<!-- kiyas:end -->", b"", 1))
        report.write(small, findings)
        assert path.with_name(f"report.md.bak{number}").read_bytes() == mine.replace(b"<!-- kiyas:end -->", b"", 1)
        assert f"kept as report.md.bak{number}" in capsys.readouterr().err
    assert path.read_bytes().count(TEXT) == 2
    other.write_bytes(turkish + b"An afterthought.\n")
    report.write(small, findings)
    assert other.read_bytes() == turkish and "kept as report.tr.md.bak" in capsys.readouterr().err


# -- tables and figures ---------------------------------------------------------------------------------------


def test_every_table_and_figure_that_is_shown_has_its_files(written: Path) -> None:
    folder = written / "report"
    document, page = ((folder / name).read_text(encoding="utf-8") for name in ("report.md", "index.html"))
    linked = set(re.findall(r"\]\(((?:tables|figures)/[^)]+)\)", document))
    linked |= set(re.findall(r'href="((?:tables|figures)/[^"]+)"', page))
    there = {str(path.relative_to(folder)) for kind in ("tables", "figures") for path in (folder / kind).iterdir()}
    assert linked <= there and {name for name in there if name.endswith(".csv")} <= linked
    shown = document.count("\n|---") + document.count("\n| ---")
    assert shown > 5 and document.count(".tex)") == shown == len(list((folder / "tables").glob("*.tex")))
    figures = {path.stem for path in (folder / "figures").iterdir()}
    for stem in figures:
        assert (folder / "figures" / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert f"figures/{stem}.png" in linked and f"figures/{stem}.pdf" in linked
        assert f"figures/{stem}.png" in document
    assert page.count('<table class="data">') <= page.count('href="tables/')


@pytest.mark.parametrize("language", languages())
def test_sections_in_the_order_of_the_study(small: Path, language: str) -> None:
    findings, words = analyse(small), Language(language)
    told = methods.paragraphs(small, findings, words)
    text = markdown.render(findings, words, tables.tables(findings, words), charts.charts(findings, words), told)
    order = ("question", "training", "results", "errors", "conclusion", "methods", "files")
    headings = re.findall(r"^# (.*)$", text, re.MULTILINE)
    assert headings == [f"{n}. {words(f'document.{name}')}" for n, name in enumerate(order, 1)]
    blocks = re.findall(r"^<!-- kiyas:author (\S+) -->$", text, re.MULTILINE)
    assert blocks == ["question", "loss-deep", "loss-diverse", *order[1:]]
    errors = text.split(words("document.errors"))[1].split(words("document.conclusion"))[0]
    assert words("table.stability") in errors and "tables/grid.csv" in text
    assert "{" not in text and "nan" not in text.lower().split()


# -- methods --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a commit, a file, a derived arm, a grid of rates and filters: all that can be told of one."""
    run = make_run(
        tmp_path_factory.mktemp("methods") / "run",
        rates={"deep": 0.3, "few": 0.4},
        steps=(60,),
        seeds=(0, 1),
        problems=6,
    )
    path = run / "resolved.json"
    resolved = json.loads(path.read_text())
    study = Study.model_validate(
        {
            "name": "run",
            "model_name_or_path": "owner/base",
            "model_revision": "abcdef0123456789",
            "arms": {
                "deep": {"dataset_name": "/data/deep.jsonl"},
                "few": {
                    "from": "deep",
                    "solutions": 1,
                    "draws": 2,
                    "training": {"weight_decay": 0.5, "budget": {"steps": 120}},
                },
            },
            "dataset": {"system": "You are an expert."},
            "seeds": 2,
            "training": {"learning_rate": [1e-4, 2e-4], "budget": {"steps": 120}, "patience": 3},
            "benchmarks": {
                "primary": {
                    "dataset": "livecodebench",
                    "release": "release_v5",
                    "from": "2024-08",
                    "difficulty": ["easy"],
                }
            },
            "judge": {"time_limit_s": 2.5},
        }
    ).model_dump(mode="json")
    resolved |= {"study": study, "base": {"name_or_path": "owner/base", "parameters": 1234567, "fingerprint": "f" * 64}}
    resolved |= {"python": "3.12.1", "packages": {"torch": "2.11"}, "platform": "Linux", "git": "0123456789abcdef+"}
    resolved |= {"device": "gpu", "dtype": "float16"}
    path.write_text(json.dumps(resolved))
    counts = {"arms": {"deep": {"train": 4505, "validation": 15, "groups": 901}}}
    finish(RunDir(run), Stage.DATA, {"/data/deep.jsonl": "9" * 64}, counts, 0.0)
    return run


POINTS = ((1e-4, ()), (2e-4, (0, 1)))


def on_a_grid(run: Path) -> Findings:
    """The findings, as if the run had been one of two learning rates."""
    points = [
        LearningRatePoint("deep", f"lr-{rate:g}", rate, 0.5, 0.3, False, bool(seeds), seeds) for rate, seeds in POINTS
    ]
    return dataclasses.replace(analyse(run), learning_rates=tuple(points))


def test_methods_tell_what_is_recorded(told: Path) -> None:
    text = "\n".join(methods.paragraphs(told, on_a_grid(told), Language("en")))
    for part in (
        "The base model was owner/base (commit abcdef012345; 1,234,567 parameters; fingerprint ffffffffffff)",
        "Arm deep: deep.jsonl (SHA-256 999999999999; 4,505 training samples of 901 problems; 15 held out",
        "Arm few: drawn at random from deep, 2 draws (solutions: 1).",
        "system prompt “You are an expert.”",
        "of rank 16 with alpha 32",
        "Every seed was trained at each of these learning rates: 0.0001; 0.0002.",
        "own lowest last validation loss (rates, and their numbers of seeds: deep 0.0002 (2))",
        "after 3 checkpoints without a lower",
        "Arm few was trained with its own settings: budget = steps 120, weight_decay = 0.5.",
        "The budget was 120 optimizer steps for each training; seeds 0, 1.",
        "LiveCodeBench (Jain et al. 2024) (release: release_v5; difficulty: easy; from: 2024-08; 6 problems; 24 tests)",
        "2.5 s of CPU time, the problem's own or 1024 MB of memory",
        "2 January 2026 with Kıyas 0.1.0, torch 2.11, Python 3.12.1 on Linux (GPU, float16).",
        "revision 0123456789ab, with uncommitted changes",
    ):
        assert part in text, part
    assert "/data" not in text


def test_methods_in_turkish(told: Path) -> None:
    text = "\n".join(methods.paragraphs(told, on_a_grid(told), Language("tr")))
    for part in (
        "1.234.567 parametre",
        "adımların %3,0'ında",
        "0,0001; 0,0002",
        "2,5 s",
        "2 Ocak 2026",
        "Jain vd.",
    ):
        assert part in text, part
    assert "et al." not in text and "{" not in text


def test_a_base_in_4_bits_is_said_to_be_another(told: Path, tmp_path: Path) -> None:
    run = shutil.copytree(told, tmp_path / "run")
    path = run / "resolved.json"
    resolved = json.loads(path.read_text())
    resolved["study"]["training"]["load_in_4bit"] = True
    resolved["packages"]["bitsandbytes"] = "0.50.2"
    path.write_text(json.dumps(resolved))
    findings = on_a_grid(run)
    for language, cited, another in (
        ("en", "blocks of 64 weights) (Dettmers et al. 2023)", "base in 4-bit NF4: another base than the 16-bit one"),
        ("tr", "Dettmers vd. 2023", "base modelinin 4 bite (NF4) nicemlenmiş biçimidir"),
    ):
        words = Language(language)
        text = "\n".join(methods.paragraphs(run, findings, words))
        assert cited in text and "bitsandbytes 0.50.2" in text
        assert another in terminal.render(findings, words, width=400, color=False)
    plain = "\n".join(methods.paragraphs(told, on_a_grid(told), Language("en")))
    assert "NF4" not in plain and "base_in_4bit" not in {remark.code for remark in analyse(told).remarks}


def test_methods_of_an_import_invent_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(60,), seeds=(0,), problems=4)
    path = run / "resolved.json"
    unknown = {"kind": "import", "study": None, "base": None, "judge": None, "declared_sha256": None, "packages": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | unknown))
    text = "\n".join(methods.paragraphs(run, analyse(run), Language("en")))
    assert "imported from 0 files" in text and "Verdicts were read" in text and "Nothing was declared" in text
    for word in ("LoRA", "AdamW", "budget", "greedily", "isolation", "were declared", "made on"):
        assert word not in text, word


def test_whom_the_methods_cite_stands_in_the_references() -> None:
    entries = re.findall(r"^@\w+\{([^,]+),", citations.references(), re.MULTILINE)
    assert len(entries) == len(set(entries)) and set(entries) <= citations.papers().keys()
    for language in languages():
        found = citations.IN_PHRASE.findall(" ".join(phrases(language).values()))
        assert {key for keys in found for key in keys.replace("@", "").split("; ")} == set(entries), language
    english, turkish = Language("en"), Language("tr")
    assert english.cite("@tsui1989", "@weerahandi1993") == "(Tsui & Weerahandi 1989; Weerahandi 1993)"
    assert turkish.cite("@hu2022lora", "@korn1998") == "(Hu vd. 2022; Korn ve Graubard 1998)"
    assert quoting.markdown(Language("en", paper=True).cite("@holm1979")) == "[@holm1979]"
    assert quoting.markdown("\ufdd0@nobody\ufdd1 @nobody [@nobody]") == r" \@nobody \[\@nobody\]"


def test_the_benchmarks_papers_stand_in_the_bibliography_once() -> None:
    entries = re.findall(r"^@\w+\{([^,]+),", citations.bibliography(), re.MULTILINE)
    assert len(entries) == len(set(entries)) and {"jain2024livecodebench", "liu2023evalplus", "holm1979"} <= set(
        entries
    )
    for known in HUB_BENCHMARKS.values():
        authors, year = citations.papers()[citations.key(known.citation)]
        assert all(author.isalpha() for author in authors) and year.isdigit()
    entry = '@misc{x,\n  author = "Ada Lovelace and Charles Babbage",\n  year = 1843\n}'
    assert (citations.key(entry), citations.surnames(entry)) == ("x", ("Lovelace", "Babbage"))
    assert citations.field(entry, "year") == "1843" and citations.key("") == ""


def test_every_phrase_of_the_methods_is_said() -> None:
    source = Path(methods.__file__).read_text(encoding="utf-8")
    keys = {key.removeprefix("methods.") for key in phrases("en") if key.startswith("methods.")}
    patterns = ("schedule_", "budget_", "known_", "fact_")
    assert {key for key in keys if f'"{key}"' not in source and f"methods.{key}" not in source} == {
        key for key in keys if key.startswith(patterns)
    }
    said = re.findall(r'say\(\s*"(\w+)"', source)
    assert len(said) > 20 and set(said) <= keys
