"""A protocol is frozen before anything is trained, and holds the run to its word ever after."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from momkd.errors import ConfigError, DataError, IntegrityError
from momkd.simulation import SimulationOptions, simulate, write_cohort
from momkd.storage import digest_file
from momkd.workflows import crossval as workflow
from momkd.workflows.compare import compare
from momkd.workflows.crossval import crossval
from momkd.workflows.evaluate import evaluate
from momkd.workflows.frozen_protocol import NOT_FROZEN
from momkd.workflows.report import report
from tests.inline_jobs import run_inline

CONFIG = {
    "data": {
        "features": "features",
        "clinical": "clinical.csv",
        "target": {"column": "biomarker", "positive": "positive", "negative": "negative"},
    },
    "fit": {"epochs": 1, "batch_size": 8},
    "folds": {"n": 2, "val_fraction": 0.25},
    "model": {"name": "mean_logistic"},
}
MODELS = "mean_logistic,abmil"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    options = SimulationOptions(n_cases=24, dim=24, n_genes=20, grid_side=3, prevalence=0.5)
    write_cohort(simulate(options), folder)
    (folder / "momkd.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "run_jobs", run_inline)


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "run_jobs", run_inline)
        run = tmp_path_factory.mktemp("finished") / "run"
        return crossval(cohort / "momkd.yaml", run, model=MODELS, method="abmil")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def rewrite(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def test_what_is_frozen_stands_in_one_file_and_its_digest_everywhere(run: Path) -> None:
    frozen, sha256 = load(run / "protocol.json"), digest_file(run / "protocol.json")
    manifest, metrics = load(run / "run.json"), load(run / "metrics.json")
    assert frozen["cohort"]["sha256"] == manifest["cohort"]
    counts = {row["what"]: row["n"] for row in manifest["counts"]}
    assert frozen["cohort"]["counts"] == counts
    assert [m["label"] for m in frozen["models"]] == MODELS.split(",")
    assert frozen["models"][1]["options"]["dropout"] == 0.25
    assert frozen["comparison"]["method"] == "abmil"
    assert frozen["question"]["labels"]["positive"] == ["positive"]
    assert frozen["configuration"]["fit"]["epochs"] == 1
    assert frozen["configuration"]["data"]["clinical"] == "clinical.csv"
    assert str(run.parent.parent) not in (run / "protocol.json").read_text()
    assert manifest["protocol"]["sha256"] == metrics["protocol"]["sha256"] == sha256
    assert sha256 in (run / "report.html").read_text()
    for job in manifest["jobs"]:
        assert load(run / job / "done.json")["protocol"] == sha256
    assert metrics["predictions_sha256"] == digest_file(run / "predictions.csv")
    assert NOT_FROZEN not in metrics["notes"]


def test_it_is_frozen_before_training_and_equal_for_equal_studies(
    cohort: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watch(jobs: object, *_: object, **__: object) -> None:
        seen.append(load(tmp_path / "run" / "run.json")["protocol"]["sha256"])
        assert (tmp_path / "run" / "protocol.json").exists()

    monkeypatch.setattr(workflow, "run_jobs", watch)
    config = cohort / "momkd.yaml"
    crossval(config, tmp_path / "run", model=MODELS, method="abmil", freeze=True)
    assert seen == []
    first = load(tmp_path / "run" / "run.json")["protocol"]
    # what is frozen by hand is the same, wherever it is frozen
    assert first["sha256"] == digest_file(finished / "protocol.json")
    with pytest.raises(DataError, match=r"P14.*not finished.*mean_logistic 2, abmil 2"):
        crossval(config, tmp_path / "run", model=MODELS)
    assert seen == [first["sha256"]]
    again = load(tmp_path / "run" / "run.json")["protocol"]
    assert (again["frozen"], again["method"]) == (first["frozen"], "abmil")


def test_a_changed_protocol_is_refused_by_every_command(cohort: Path, run: Path) -> None:
    path = run / "protocol.json"
    was = path.read_text()
    path.write_text(was.replace('"method": "abmil"', '"method": "mean_logistic"'))
    commands = (
        lambda: evaluate(run),
        lambda: compare(run),
        lambda: report(run),
        lambda: crossval(cohort / "momkd.yaml", run, model=MODELS),
    )
    for command in commands:
        with pytest.raises(IntegrityError, match=r"K16.*changed after it was frozen"):
            command()
    path.unlink()
    for command in commands:
        with pytest.raises(IntegrityError, match=r"K16.*is gone since it was frozen"):
            command()
    path.write_text(was[:40])
    with pytest.raises(IntegrityError, match=r"K16.*cannot be read"):
        report(run)
    path.write_text("{}")
    with pytest.raises(IntegrityError, match=r"K16.*is no protocol of a run"):
        report(run)
    path.write_text(was)
    assert report(run).path.exists()


def _other_folds(run: Path) -> None:
    table = pd.read_csv(run / "folds.csv", dtype=str)
    swap = {"train": "val", "val": "train"}
    table["split"] = table["split"].map(lambda side: swap.get(side, side))
    table.to_csv(run / "folds.csv", index=False)


def _other_budget(run: Path) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["fit"]["epochs"] = 7
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def _other_cohort(run: Path) -> None:
    rewrite(run / "run.json", load(run / "run.json") | {"cohort": "0" * 64})


def _without_a_model(run: Path) -> None:
    manifest = load(run / "run.json")
    jobs = [j for j in manifest["jobs"] if not j.startswith("abmil")]
    rewrite(run / "run.json", manifest | {"models": ["mean_logistic"], "jobs": jobs})


def _of_another_protocol(run: Path) -> None:
    path = run / "abmil" / "seed-0" / "fold-0" / "done.json"
    rewrite(path, load(path) | {"protocol": "0" * 64})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_folds, r"folds.csv: holds other folds than were frozen \(seed 0\)"),
        (_other_budget, r"config.yaml: is not the configuration.*fit.epochs"),
        (_other_cohort, "of another cohort than the protocol"),
        (_without_a_model, "lacks abmil, which the protocol names"),
        (_of_another_protocol, "made under another protocol"),
    ],
)
def test_a_run_that_no_longer_matches_is_refused(run: Path, change: object, words: str) -> None:
    change(run)
    with pytest.raises(IntegrityError, match=rf"K17.*{words}"):
        evaluate(run)


def test_predictions_without_a_model_of_the_protocol_are_refused(run: Path) -> None:
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    table[table["model"] != "mean_logistic"].to_csv(run / "predictions.csv", index=False)
    for command in (evaluate, compare):
        with pytest.raises(IntegrityError, match=r"K17.*lacks mean_logistic.*no model is taken"):
            command(run)


def test_a_table_from_elsewhere_is_not_under_the_protocol(run: Path) -> None:
    target = evaluate(run, predictions=shutil.copy(run / "predictions.csv", run.parent / "t.csv"))
    assert load(target / "metrics.json")["protocol"] is None
    page = (target / "report.html").read_text()
    assert load(run / "run.json")["protocol"]["sha256"] not in page
    assert NOT_FROZEN not in page


def test_models_and_seeds_come_in_as_amendments(cohort: Path, run: Path) -> None:
    config, sha256 = cohort / "momkd.yaml", digest_file(run / "protocol.json")
    crossval(config, run, model="dsmil")
    crossval(config, run, model="mean_logistic,abmil,dsmil", seeds=2)
    assert digest_file(run / "protocol.json") == sha256
    first, second = json.loads((run / "amendments.json").read_text())
    assert first["what"].startswith("models added: dsmil (test predictions existed")
    assert second["what"].startswith("seeds added: 1 (")
    assert (first["previous"], first["after_test_predictions"]) == (sha256, True)
    recorded = load(run / "metrics.json")["protocol"]
    assert (recorded["sha256"], recorded["amendments"]) == (sha256, 2)
    page = (run / "report.html").read_text()
    assert "amendment 1" in page
    assert "models added: dsmil" in page
    found = compare(run)
    assert any("added when test predictions existed: dsmil" in line for line in found.about)
    # an amendment is as frozen as the protocol
    rewrite(run / "amendments.json", [second])
    with pytest.raises(IntegrityError, match=r"K16.*amendment was changed, moved or taken out"):
        evaluate(run)
    rewrite(run / "amendments.json", [first | {"what": "nothing"}, second])
    with pytest.raises(IntegrityError, match="K16"):
        evaluate(run)


def test_what_was_frozen_cannot_be_had_otherwise(cohort: Path, run: Path) -> None:
    config = cohort / "momkd.yaml"
    other = {"set_": ["model={name: abmil, dropout: 0.1}"], "model": MODELS}
    with pytest.raises(IntegrityError, match=r"K17.*abmil with other options.*options.dropout"):
        crossval(config, run, **other)
    with pytest.raises(IntegrityError, match=r"K17.*names abmil as the method.*mean_logistic"):
        crossval(config, run, model=MODELS, method="mean_logistic")
    with pytest.raises(ConfigError, match=r"G05.*did you mean abmil"):
        crossval(config, run, model=MODELS, method="abmill")
    crossval(config, run, model="abmil")  # a part of it is no change
    assert not (run / "amendments.json").exists()


def test_compare_says_which_method_was_named(run: Path) -> None:
    found = compare(run)
    assert found.comparison.method == "abmil"
    assert any("abmil was named in the protocol, before any test (run " in n for n in found.about)
    assert not any("unless it was named" in s for s in found.claims.may_not)
    other = compare(run, method="mean_logistic", metric="auprc", rope=0.05)
    text = "\n".join(other.about)
    assert "mean_logistic is not the one named beforehand (run names abmil)" in text
    assert "auprc is not the primary endpoint of the protocol (auroc)" in text
    assert "lays down a region of 0.01, not 0.05" in text
    assert any("unless it was named" in s for s in other.claims.may_not)


def test_a_run_of_before_protocols_opens_with_a_note(cohort: Path, run: Path) -> None:
    (run / "protocol.json").unlink()
    manifest = load(run / "run.json")
    del manifest["protocol"]
    rewrite(run / "run.json", manifest)
    evaluate(run)
    assert NOT_FROZEN in load(run / "metrics.json")["notes"]
    assert NOT_FROZEN in report(run).path.read_text()
    assert any(NOT_FROZEN in line for line in compare(run).about)
    # nor is one made up afterwards
    crossval(cohort / "momkd.yaml", run, model=MODELS)
    assert not (run / "protocol.json").exists()
