"""Kıyas from Python."""

from __future__ import annotations

from pathlib import Path

import kiyas

STUDY = """
name: small
model_name_or_path: practice
arms: {deep: {dataset_name: practice/deep}, diverse: {dataset_name: practice/diverse}}
seeds: 1
peft: {r: 2}
training: {budget: {steps: 2}, max_length: 256, save_steps: 2, workers: 1}
benchmarks: {primary: {dataset: practice, problems: 3}}
generation: {max_new_tokens: 24}
judge: {isolation: best, time_limit_s: 2}
"""


def test_run_twice_in_one_process(tmp_path: Path) -> None:
    """A room of the package that is called like a public function would replace it at the first call."""
    (tmp_path / "study.yaml").write_text(STUDY)
    first = kiyas.run(tmp_path / "study.yaml", runs=tmp_path / "runs")
    second = kiyas.run(tmp_path / "study.yaml", "report.language=tr", runs=tmp_path / "runs")
    assert first.conclusion == second.conclusion and "arm" in first.results
    assert len(first.results) == 3 * 3 and set(first.curves["kind"]) == {"train", "validation"}
    assert 'lang="tr"' in (tmp_path / "runs" / "small" / "report" / "index.html").read_text(encoding="utf-8")
    assert kiyas.__version__ == "0.1.0" and callable(kiyas.compare) and callable(kiyas.run)
