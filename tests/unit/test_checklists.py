"""Reporting guidelines filled in from a run: what is answered, left to authors, or lacking."""

import csv
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from momkd.errors import ConfigError
from momkd.reporting.figures import svg_of
from momkd.reporting.flow_chart import draw_flow
from momkd.serving.card import Card, CardDims
from momkd.workflows import checklists as workflow
from momkd.workflows.compare import compare
from momkd.workflows.evaluate import evaluate
from momkd.workflows.guidelines.answering import ANSWERS, answer_guideline
from momkd.workflows.guidelines.facts import RunFacts
from momkd.workflows.guidelines.items import GUIDELINES, Item, read_guideline
from momkd.workflows.leakage_sheet import TYPES, leakage_sheet
from momkd.workflows.report import report
from momkd.workflows.report_flow import (
    LeftOut,
    count_sides,
    make_flow,
    read_cohort,
    read_left_out,
)
from tests.run_folders import write_run
from tests.unit.test_report import HOSTILE

FILES = {
    *(f"{name}.{form}" for name in ("tripod-ai", "claim", "probast-ai") for form in ("md", "csv")),
    *("leakage.md", "flow.svg", "flow.png"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("made") / "run")
    evaluate(run)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def lists_of(run: Path) -> dict[str, Path]:
    written = report(run, checklists=run / "lists")
    return {path.name: path for path in written.checklists}


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["item"]: row for row in csv.DictReader(stream)}


def facts_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> RunFacts:
    """Give what the checklists of a run are made from."""
    seen: list[RunFacts] = []

    def gather(sources: object) -> RunFacts:
        seen.append(real(sources))  # type: ignore[arg-type]
        return seen[-1]

    real = workflow.gather_facts
    monkeypatch.setattr(workflow, "gather_facts", gather)
    report(run)
    return seen[-1]


def change(run: Path, **manifest: object) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | manifest))


def test_items_are_numbered_as_published_and_each_is_somebodys() -> None:
    tripod, claim, probast = (read_guideline(name) for name in GUIDELINES)
    numbers = [item.number for item in tripod.items]
    assert list(dict.fromkeys(int(re.match(r"\d+", n)[0]) for n in numbers)) == [*range(1, 28)]
    assert (len(numbers), len(set(numbers))) == (52, 52)
    assert [item.number for item in claim.items] == [str(n) for n in range(1, 45)]
    assert {i.number.split()[0] for i in probast.items} == {
        *("participants", "predictors", "outcome", "analysis")
    }
    named = {name for g in (tripod, claim, probast) for item in g.items for name in item.answers}
    assert named == set(ANSWERS), "each answer is asked for, and each that is asked for is there"
    with pytest.raises(ValueError, match="neither answered nor asked"):
        Item(number="1", topic="nobody's")


def test_each_item_is_answered_or_addressed(run: Path) -> None:
    compare(run)
    files = lists_of(run)
    assert set(files) == FILES
    for name in ("tripod-ai", "claim", "probast-ai"):
        rows = rows_of(files[f"{name}.csv"])
        assert len(rows) == len(read_guideline(name.replace("-", "_")).items)
        for row in rows.values():
            told = (row["from the run"], row["for the authors"], row["not in this run"])
            assert any(told), row
            assert bool(row["from the run"]) == bool(row["where"])
            assert {
                "from the run": bool(told[0]) and not told[1] and not told[2],
                "in part": bool(told[0]) and bool(told[1] or told[2]),
                "for the authors": not told[0] and bool(told[1]),
                "not in this run": not told[0] and not told[1] and bool(told[2]),
            }[row["status"]], row
    tripod = rows_of(files["tripod-ai.csv"])
    assert tripod["17"]["status"] == "for the authors"
    assert "committee" in tripod["17"]["for the authors"]
    area = json.loads((run / "metrics.json").read_text())["models"]["momkd"]
    area = area["mean_over_folds"]["auroc"]
    figure = f"AUROC {area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
    assert figure in tripod["23a"]["from the run"]
    assert tripod["2"]["from the run"].startswith(f"HER2 by momkd, cross-validated: {figure}, 90")
    assert "A1 (45 patients, 15 positive): momkd 0." in tripod["23b"]["from the run"]
    claim = rows_of(files["claim.csv"])
    assert "92 listed, 91 used, 1 left out" in claim["35"]["from the run"]
    assert "1 patients (cases): HER2 is blank [L01]" in claim["35"]["from the run"]
    table = pd.read_csv(run / "predictions.csv")
    ours = table[table["model"] == "abmil"]
    missed = int(((ours["prob_HER2"] < 0.5) & (ours["y_true"] == 1)).sum())
    assert f"abmil: of 180 predictions {missed} missed a HER2" in claim["39"]["from the run"]
    assert "2 repeats" in claim["30"]["from the run"]
    assert "May be claimed" in tripod["25"]["from the run"]
    for path in files.values():
        content = path.read_bytes()
        assert b"HER2-c000" not in content, "no patient is named"
        assert b"/srv/someone" not in content


def test_what_a_run_lacks_is_said(run: Path) -> None:
    for name in ("cohort.csv", "folds.csv"):
        (run / name).unlink()
    change(run, proof=None, notes=[], counts=[])
    files = lists_of(run)
    assert set(files) == FILES - {"flow.svg", "flow.png"}
    rows = rows_of(files["claim.csv"])
    assert rows["33"]["not in this run"].startswith("an external cohort")
    assert rows["33"]["status"] == "not in this run"
    assert "momkd compare" in rows["29"]["not in this run"]
    assert rows["20"]["not in this run"].startswith("a proof that the sides of a fold share nobody")
    assert "folds.csv" in rows["36"]["not in this run"]
    assert "counts of what was listed" in rows["35"]["not in this run"]
    assert rows["24"]["status"] == "from the run"
    assert "card can be read" in rows_of(files["tripod-ai.csv"])["22"]["not in this run"]
    ways = leakage_sheet(json.loads((run / "run.json").read_text()), 0, {})
    status = {(way.type, way.leak): way.status for way in ways}
    assert status["L1.1", "no test side, or one that was trained on"] == "not recorded"
    assert status["L1.4", "one slide file under two patients"] == "not recorded"
    assert "not recorded" in files["leakage.md"].read_text()


def test_an_unfinished_run_has_no_figures_and_says_so_first(tmp_path: Path) -> None:
    jobs = [f"momkd/seed-0/fold-{i}" for i in range(3)]
    run = write_run(tmp_path / "run", ["momkd"], seeds=1, open_jobs=jobs)
    files = lists_of(run)
    for name in ("tripod-ai.md", "claim.md", "leakage.md"):
        assert "**Unfinished: 0 of 3 trainings are done" in files[name].read_text()
    rows = rows_of(files["tripod-ai.csv"])
    assert rows["23a"]["from the run"] == ""
    assert "no model was tested on every fold" in rows["23a"]["not in this run"]


def test_a_run_that_tested_nobody_proves_no_test_side(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text())
    folds = [row | ({"cases": 0} if row["side"] == "test" else {}) for row in manifest["folds"]]
    first = leakage_sheet(manifest | {"folds": folds}, 0, {})[0]
    assert (first.type, first.status) == ("L1.1", "not recorded")
    assert "nothing was scored" in first.known
    assert leakage_sheet(manifest, 0, {})[0].status == "verified"


def test_the_leakage_sheet_has_every_type_with_a_proof_or_says_none(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text())
    ways = leakage_sheet(manifest, 6, {"data": {"patient_alias": "a.csv"}})
    assert list(dict.fromkeys(way.type for way in ways)) == list(TYPES)
    assert all(way.known for way in ways if way.status == "verified")
    assert {w.status for w in ways if w.type == "L3.1"} == {"not examined"}
    (genes,) = [w for w in ways if w.type == "L1.3"]
    assert (genes.known, genes.status) == ("6 gene panels recorded", "enforced")
    (alias,) = [w for w in ways if "two names" in w.leak]
    assert alias.status == "verified"
    assert "HER2" in next(w.known for w in ways if w.type == "L2")
    text = lists_of(run)["leakage.md"].read_text()
    assert "digest of the folds ffffffffffff" in text
    assert "4 of 11 ways were not examined" in text


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    word = "=cmd|' /C calc'!A0" + HOSTILE.replace("\x00", "").replace("\ud800", "")
    run = write_run(tmp_path / "run", word=word)
    evaluate(run)
    files = lists_of(run)
    for path in files.values():
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<!\\)<", text)
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    for name in ("tripod-ai", "claim"):
        cells = [c for row in rows_of(files[f"{name}.csv"]).values() for c in row.values()]
        assert not [c for c in cells if c.lstrip()[:1] in ("=", "+", "-", "@")]
        assert any("cmd|" in c for c in cells)
    root = ElementTree.fromstring(files["flow.svg"].read_text(encoding="utf-8"))
    tags = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert not tags & {"script", "image", "a", "foreignObject"}


def test_cards_and_external_cohorts_are_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(run, monkeypatch)
    card = Card(
        model="momkd",
        options={"n_slots": 16},
        dims=CardDims(dim_in=24),
        task="HER2",
        class_names=("no HER2", "HER2"),
        encoder="uni_v1",
        encoder_sha256="e" * 64,
        tile_px=256,
        mpp=0.5,
        temperature=1.25,
        thresholds={"max_f1": 0.4},
        threshold_rule="max_f1",
    )
    entry = json.loads((run / "metrics.json").read_text())["models"]["momkd"]
    known = replace(facts, cards={"momkd": card}, external={"berlin": {"models": {"m": entry}}})
    rows = {i.number: i for i in answer_guideline(read_guideline("claim"), known)}
    assert "width 24" in answer_of("predictors", known)
    assert "256 px at 0.5 um/px" in rows["13"].text
    assert "n_slots 16" in rows["22"].text
    assert "k-means" in rows["24"].text
    assert "momkd: 1.25 and +0.00" in answer_of("calibration", known)
    assert "rule max_f1" in answer_of("output", known)
    assert "momkd 0.500 to 0.500" in answer_of("output", known)
    assert "uni_v1: cc-by-nc-nd-4.0" in rows["43"].text
    assert "berlin, m: AUROC 0." in rows["33"].text
    # a folder of momkd train: no jobs, one predictor
    final = run / "predictor"
    final.mkdir()
    (final / "config.json").write_text(json.dumps(card.model_dump(mode="json")))
    assert facts_of(run, monkeypatch).cards == {}
    jobs = json.loads((run / "run.json").read_text())["jobs"]
    change(run, jobs=[])
    (run / "panel.json").write_text("{}")
    alone = facts_of(run, monkeypatch)
    assert (alone.cards, alone.n_panels) == ({"momkd": card, "abmil": card}, 1)
    change(run, jobs=jobs)
    damaged = run / "momkd/seed-0/fold-0/predictor"
    damaged.mkdir()
    (damaged / "config.json").write_text("[]")
    assert facts_of(run, monkeypatch).cards == {}


def answer_of(name: str, run: RunFacts) -> str:
    return str(getattr(ANSWERS[name](run), "text", ""))


def test_the_flow_counts_what_the_tables_hold(run: Path) -> None:
    cohort = read_cohort(run / "cohort.csv")
    sides = count_sides(run / "folds.csv", cohort)
    manifest = json.loads((run / "run.json").read_text())
    for side in ("train", "val", "test"):
        rows = [r for r in manifest["folds"] if r["side"] == side]
        ours = {s.class_name: s for s in sides if s.side == side}
        held = [r["positives"] for r in rows]
        assert ours["HER2"].cases == (min(held), max(held))
        held = [r["cases"] - r["positives"] for r in rows]
        assert ours["no HER2"].cases == ours["no HER2"].slides == (min(held), max(held))
    assert cohort is not None
    flow = make_flow(manifest["counts"], read_left_out(run / "dropped.csv"), cohort, sides, 6)
    assert flow is not None
    words = flow.words()
    for needle in (
        "Listed: patients (cases): 92; slides: 91",
        "1 x [L01] HER2 is blank",
        "no HER2: 60 cases, 60 slides; HER2: 31 cases, 30 slides",
        "Test: of each of 6 folds",
    ):
        assert needle in words, needle
    first = svg_of(draw_flow(flow))
    assert first == svg_of(draw_flow(flow))
    assert "60 cases, 60 slides" in first
    assert f'alt="{words[:40]}' in report(run).path.read_text()


def test_a_side_that_holds_nobody_of_a_class_counts_zero(tmp_path: Path) -> None:
    cohort = pd.DataFrame(
        {
            "case_id": ["a", "a", "b", "c"],
            "slide_id": ["a1", "a2", "b1", ""],
            "rna_id": ["a", "a", "", "c"],
            "label": ["1", "1", "0", "1"],
            "class_name": ["yes", "yes", "no", "yes"],
        }
    )
    rows = [("0", "0", "a", "train"), ("0", "0", "b", "test"), ("0", "0", "c", "train")]
    rows += [("1", "1", "b", "train"), ("1", "1", "a", "test"), ("1", "1", "c", "train")]
    path = tmp_path / "folds.csv"
    pd.DataFrame(rows, columns=["seed", "fold", "case_id", "split"]).to_csv(path, index=False)
    found = {(s.side, s.class_name): (s.cases, s.slides, s.rna) for s in count_sides(path, cohort)}
    assert found["train", "yes"] == ((1, 2), (0, 2), (1, 2))
    assert found["test", "yes"] == ((0, 1), (0, 2), (0, 1))
    assert found["val", "no"] == ((0, 0), (0, 0), (0, 0))
    assert count_sides(tmp_path / "none.csv", cohort) == []


def test_many_causes_fit_the_chart_and_are_counted() -> None:
    counts: list[Mapping[str, object]] = [{"what": "cases left out", "n": 40}]
    left = [LeftOut(kind="case", code="L01", reason=f"{'long ' * 40}{i}", n=1) for i in range(40)]
    flow = make_flow(counts, left, None, [], 0)
    assert flow is not None
    assert flow.left_out.lines[-1] == "28 further causes, in dropped.csv"
    assert flow.left_out.height_in < 6
    assert make_flow([], left, None, [], 0) is None


def test_equal_runs_have_equal_lists_and_a_file_is_no_folder(run: Path, tmp_path: Path) -> None:
    first = {name: path.read_bytes() for name, path in lists_of(run).items()}
    (run / "lists" / "mine.txt").write_text("kept")
    assert {name: path.read_bytes() for name, path in lists_of(run).items()} == first
    assert (run / "lists" / "mine.txt").exists()
    with pytest.raises(ConfigError, match=r"G07.*--checklists"):
        report(run, checklists=run / "run.json")
