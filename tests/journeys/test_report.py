"""The page of a run, from the command line."""

import json
import shutil
from pathlib import Path

import pytest

from momkd.workflows.report import report
from tests.journeys.run_momkd import momkd, refused
from tests.page_reader import faults_of
from tests.run_folders import write_run


def test_the_page_of_a_run(finished_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    lists = tmp_path / "lists"
    answer = momkd(
        *("report", finished_run, "-o", page, "--cases", 2, "--examples", 1),
        *("--checklists", lists),
    )
    assert answer.code == 0, answer.err
    report, checklists = answer.out.splitlines()
    assert report == f"report: {page}"
    assert checklists.startswith(f"checklists: {lists}: tripod-ai.md, tripod-ai.csv, claim.md")
    for name, needle in (
        ("tripod-ai.md", "| 23a |"),
        ("claim.md", "embeddings of width 24"),
        ("leakage.md", "3 gene panels recorded"),
        ("flow.svg", "of each of 3 folds"),
    ):
        assert needle in (lists / name).read_text(), name
    assert (lists / "flow.png").read_bytes().startswith(b"\x89PNG")
    html = page.read_text()
    assert faults_of(html) == []
    for needle in ("Paired comparison", "The flow adds up", "Memory of momkd", "Glossary"):
        assert needle in html
    assert "Examples, right and wrong" in html
    assert html.count("not learn from this slide") >= 2
    assert "No picture" not in html
    assert faults_of((finished_run / "report.html").read_text()) == []
    refused(momkd("report", tmp_path), 3, "[P13]", "no run folder")
    refused(momkd("report", finished_run, "-o", finished_run / "run.json"), 2, "[G07]", ".html")


def test_the_page_of_a_run_that_was_stopped(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    job = json.loads((run / "run.json").read_text())["jobs"][0]
    (run / job / "done.json").unlink()
    answer = momkd("report", run)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("Unfinished: 5 of 6 trainings are done (to do: momkd 1).")
    assert 'role="alert">Unfinished' in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "encoding",
    [*(pytest.param(e, marks=pytest.mark.slow) for e in ("ascii", "utf-8")), "latin-1"],
)
def test_r10_a_console_that_cannot_show_a_name_changes_nothing(
    tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "日本", ["abmil"], n=30, seeds=1, epochs=2, word="Größe 日本")
    page = report(run, output=tmp_path / "wanted.html").path.read_bytes()
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
    answer = momkd("report", run)
    assert answer.code == 0, answer.err
    assert "Traceback" not in answer.err
    assert answer.out.startswith("report: ")
    assert (run / "report.html").read_bytes() == page
