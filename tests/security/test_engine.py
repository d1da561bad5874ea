"""A crash of the charts' engine costs a figure, and page, report.md and terminal say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import ALL

from kiyas import cli
from kiyas.report import charts, drawing
from synthetic import make_run


def spec(text: str) -> charts.Spec:
    import altair as alt

    data = alt.Data(values=[{"x": 1, "said": text}])
    return charts.finish(alt.layer(alt.Chart(data).mark_point().encode(x="x:Q", y="said:N")), 100, 50)


def test_charted_texts_are_clean() -> None:
    with drawing.engine() as engine:
        found = drawing.drawn({"x": charts.Chart("x", ALL, ALL, spec(ALL))}, engine)["x"]
    assert found.drawing is not None and found.drawing.png.startswith(b"\x89PNG") and b"%PDF" in found.drawing.pdf[:9]
    assert "<script" not in found.drawing.svg


@pytest.fixture(autouse=True)
def engine_of_its_own(own_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "engine", own_engine)


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine that dies on some charts as the real one did: by a signal, in silence, or by an error of its own."""
    source = drawing.ENGINE.read_text(encoding="utf-8")
    broken = """
def answer(asked, answer=answer):
    text = json.dumps(asked)
    if '"said"' in text:
        os.abort()
    if "deep" in text:
        os._exit(3)
    if "loss" in text:
        raise ValueError("\\x1b[31mno such chart")
    return answer(asked)


if __name__"""
    path = tmp_path / "engine.py"
    path.write_text(source.replace("\nif __name__", broken), encoding="utf-8")
    monkeypatch.setattr(drawing, "ENGINE", path)
    return path


def test_a_report_without_figures(fragile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", seeds=(0, 1), steps=(20, 40), problems=6)
    assert cli.main(["report", str(run)]) == 0
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if "could not be drawn" in line]
    assert len(said) == 6 and "differences could not be drawn (the engine ended by SIGABRT)" in err
    assert "(the engine ended)" in err and "no such chart" in err and "\x1b" not in err
    folder = run / "report"
    assert not (folder / "figures").exists()
    html, text = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert html.count("could not be drawn") >= 3 and text.count("could not be drawn") >= 3
    assert "figures/" not in html and "figures/" not in text and "Training" in html
    assert cli.main(["report", str(run), "--language", "tr"]) == 0
    assert "çizilemedi" in (folder / "index.tr.html").read_text(encoding="utf-8")


def test_one_crash_costs_one_figure(fragile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = charts.Chart("good", "t", "l", {"mark": "point", "data": {"values": [{}]}})
    bad = charts.Chart("bad", "t", "l", spec("x"))
    with drawing.engine() as engine:
        found = drawing.drawn({"1": good, "2": bad, "3": good, "4": good}, engine)
    assert [each.drawing is not None for each in found.values()] == [True, False, True, True]


def test_a_pooled_report_without_its_figure(
    fragile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fragile.write_text(fragile.read_text().replace("'\"name\"' in text", "'forest' in text or 'spec' in asked"))
    (tmp_path / "c.csv").write_text("study,arm,solved,total\ns,a,10,41\ns,b,20,41\nt,a,11,41\nt,b,21,41\n")
    assert cli.main(["compare", str(tmp_path / "c.csv"), "--out", str(tmp_path / "out")]) == 0
    assert "forest could not be drawn" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "pooled.csv", "pooled.md"}
    for name in ("index.html", "pooled.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "could not be drawn" in text and "forest." not in text


def test_an_engine_that_never_answers(fragile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SECONDS", 1)
    fragile.write_text(fragile.read_text().replace("os.abort()", "[None for _ in iter(int, 1)]"))
    with drawing.engine() as engine:
        assert engine.ask(spec=spec("x")) == {"error": "the engine ended by SIGALRM"}


def test_an_engine_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing.sys, "executable", "/no/such/python")
    with drawing.engine() as engine:
        assert engine.ask(spec={}) == {"error": "the engine cannot be started: No such file or directory"}


def test_one_process_draws_all_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = drawing.subprocess.Popen

    def popen(*words: object, **more: object) -> object:
        started.append(words)
        return real(*words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(drawing.subprocess, "Popen", popen)
    run = make_run(tmp_path / "run", seeds=(0,), steps=(20, 40), problems=6)
    assert cli.main(["report", str(run)]) == 0 and len(started) == 1
