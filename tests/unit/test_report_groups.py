"""Subgroups and examples of a report: who is shown, and who is counted."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from momkd.errors import ConfigError
from momkd.workflows.evaluate import evaluate
from momkd.workflows.report import report
from momkd.workflows.report_examples import choose_examples
from momkd.workflows.report_groups import subgroups_section
from tests.page_reader import PageReader, faults_of
from tests.run_folders import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("groups") / "run", ["abmil"])
    cases = [f"HER2-c{i:03d}" for i in range(90)]
    with (folder / "covariates.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case_id", "grade", "age", "hospital"])
        for i, case in enumerate(cases):
            grade = "" if i < 3 else ("high" if i < 60 else "low")
            writer.writerow([case, grade, 30 + i, "one"])
    evaluate(folder)
    return folder


def test_groups_are_counted_and_small_ones_stand_together(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert faults_of(html) == []
    words = PageReader(html).words
    assert "AUROC by grade: groups with 20 tested cases and 5 of each class" in words
    assert "1 smaller groups together3" in "".join(words.split("\n"))
    assert "up to 74.545" in "".join(words.split("\n")), "half of 90 cases"
    assert "above 74.545" in "".join(words.split("\n"))
    assert "AUROC by hospital" not in words, "one hospital parts nobody"
    assert "AUROC by RNA profile" not in words, "every tested case has RNA"
    assert "Differences between groups were not tested" in words


def test_who_has_rna_is_a_group(tmp_path: Path) -> None:
    cases = pd.DataFrame(
        {
            "model": "m",
            "seed": 0,
            "fold": 0,
            "case_id": [f"c{i}" for i in range(80)],
            "y_true": [i % 2 for i in range(80)],
            "probability": [(i % 7) / 7 for i in range(80)],
            "threshold": 0.5,
        }
    )
    cohort = pd.DataFrame(
        {"case_id": cases["case_id"], "rna_id": ["r" if i < 40 else "" for i in range(80)]}
    )
    section = subgroups_section(cases, cohort, tmp_path / "none.csv")
    assert section is not None
    rows = section.parts[0].rows
    assert [row["RNA profile"] for row in rows] == ["with RNA", "without RNA"]
    assert [(row["cases"], row["positive cases"]) for row in rows] == [(40, 20), (40, 20)]


def test_examples_are_the_clearest_of_each_kind() -> None:
    rows = [
        ("a", "a1", 1, 0.9),
        ("a", "a2", 1, 0.7),
        ("b", "b1", 1, 0.95),
        ("c", "c1", 1, 0.1),
        ("d", "d1", 0, 0.2),
        ("e", "e1", 0, 0.6),
        ("f", "f1", 0, 0.99),
    ]
    table = pd.DataFrame(rows, columns=["case_id", "slide_id", "y_true", "prob_yes"])
    table = table.assign(prob_no=1 - table["prob_yes"], model="m", threshold=0.5, split="test")
    table = table[["case_id", "slide_id", "y_true", "prob_no", "prob_yes", "model", "threshold"]]
    chosen = choose_examples(table, "m", 1)
    assert [(e.slide_id, e.label, e.called) for e in chosen] == [
        ("b1", 1, 1),
        ("c1", 1, 0),
        ("d1", 0, 0),
        ("f1", 0, 1),
    ]
    two = choose_examples(table, "m", 2)
    assert [e.slide_id for e in two] == ["b1", "a1", "c1", "d1", "f1", "e1"]
    assert two[1].probability == pytest.approx(0.8), "mean over its slides"


def test_examples_without_features_are_told_and_not_named(run: Path, tmp_path: Path) -> None:
    page = report(run, output=tmp_path / "page.html", n_examples=1).path.read_text("utf-8")
    assert faults_of(page) == []
    words = PageReader(page).words
    assert "Example 1: HER2, called HER2 (right)" in words
    assert words.count("No picture: F28") == 4
    assert "HER2-c" not in page
    for n in (-1, 6):
        with pytest.raises(ConfigError, match="G07"):
            report(run, n_examples=n)
