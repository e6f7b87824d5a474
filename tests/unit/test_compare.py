import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import momkd
from momkd.errors import ConfigError, DataError
from momkd.evaluation.comparison import CORRECTED_T, DELONG
from momkd.evaluation.corrected_tests import corrected_t
from momkd.workflows.compare import compare
from momkd.workflows.comparison_page import read_comparison
from momkd.workflows.evaluate import refresh_report
from momkd.workflows.prediction_tables import read_prediction_table


def predictions(models: dict[str, float], *, seeds: int = 2, n: int = 120) -> pd.DataFrame:
    """Test rows of a run, two slides for some cases; a number parts the classes."""
    y = (np.arange(n) % 3 == 0).astype(int)
    rows = []
    for name, seed in itertools.product(models, range(seeds)):
        order = np.random.default_rng(seed).permutation(n)
        noise = np.random.default_rng([len(name), seed]).normal(size=n)
        p = 1 / (1 + np.exp(-(noise + models[name] * y)))
        for fold, at in enumerate(np.array_split(order, 4)):
            rows += [
                (f"c{i:03d}", f"s{i:03d}-{slide}", fold, "test", name, seed, y[i], 1 - p[i], p[i])
                for i in at
                for slide in range(1 + i % 2)
            ]
    names = ("case_id", "slide_id", "fold", "split", "model", "seed", "y_true")
    table = pd.DataFrame(rows, columns=[*names, "prob_negative", "prob_positive"])
    return table.assign(y_pred=table["prob_positive"] > 0.5, threshold=0.5)


def run_folder(folder: Path, table: pd.DataFrame) -> Path:
    """A run folder with what a comparison and a report need."""
    folder.mkdir()
    table.to_csv(folder / "predictions.csv", index=False)
    rows = []
    cases = sorted(table["case_id"].unique())
    for (seed, fold), part in table.groupby(["seed", "fold"]):
        tested = set(part["case_id"])
        train = [c for c in cases if c not in tested][: len(cases) * 7 // 10]
        rows += [(seed, fold, c, "test", "d") for c in sorted(tested)]
        rows += [(seed, fold, c, "train", "d") for c in [*train, "rna-only"]]
    names = ["seed", "fold", "case_id", "split", "cohort"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "folds.csv", index=False)
    (folder / "dropped.csv").write_text("kind,id,code,reason\n")
    (folder / "config.yaml").write_text(
        "data: {features: [features], clinical: c.csv, rna: null}\n"
    )
    manifest = {
        "task": "HER2",
        "class_names": ["negative", "positive"],
        "models": sorted(table["model"].unique()),
        "notes": [],
        "counts": [],
        "folds": [],
        "machine": {},
        "started": "then",
        "cohort": "d",
        "settings": "d",
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def test_one_run_is_compared_written_and_shown(tmp_path: Path) -> None:
    table = predictions({"momkd": 2.0, "abmil": 0.4, "wikg": 0.5})
    run = run_folder(tmp_path / "run", table)
    found = momkd.compare(run)
    of = found.comparison
    assert (of.method, of.test, of.n_folds, of.n_repeats) == ("momkd", CORRECTED_T, 8, 2)
    assert of.test_over_train == pytest.approx(30 / 84)  # the RNA-only case is not counted
    assert [pair.other for pair in of.pairs] == ["abmil", "wikg"]
    cases = (
        table.groupby(["model", "seed", "fold", "case_id"]).mean(numeric_only=True).reset_index()
    )
    wanted = np.mean(
        [
            roc_auc_score(part["y_true"], part["prob_positive"])
            for _, part in cases[cases["model"] == "abmil"].groupby(["seed", "fold"])
        ]
    )
    assert of.pairs[0].score_other == pytest.approx(wanted)
    content = json.loads((run / "comparison.json").read_text())
    assert content["pairs"][0]["p_holm"] == pytest.approx(of.pairs[0].p_holm)
    assert content["may_claim"]
    assert content["may_not_claim"]
    assert "naive" not in (run / "comparison.json").read_text()
    flat = pd.read_csv(run / "comparison.csv")
    assert flat["minimum_detectable"].tolist() == pytest.approx(
        [pair.verdict.minimum_detectable for pair in of.pairs]
    )
    html = (run / "report.html").read_text()
    assert "Paired comparison" in html
    assert "What may not" in html
    assert "Decision curves" in html
    assert "http://" not in html
    assert "https://" not in html
    metrics = json.loads((run / "metrics.json").read_text())["models"]["momkd"]
    again = metrics["auroc_if_trained_again"]
    assert again["value"] == pytest.approx(metrics["mean_over_folds"]["auroc"]["value"])
    aurocs = np.array([row["auroc"] for row in metrics["per_fold"]])
    assert again["high"] == pytest.approx(min(1.0, corrected_t(aurocs, 30 / 84).high))
    slope = metrics["pooled"]["calibration_slope"]
    assert slope["low"] < slope["value"] < slope["high"]
    point = metrics["mean_over_folds"]["sensitivity_at_specificity_90"]
    assert 0 <= point["low"] <= point["value"] <= point["high"] <= 1
    curve = metrics["decision_curve"]
    assert len(curve["thresholds"]) == len(curve["net_benefit"]) == len(curve["treat_all"])


def test_the_naive_test_is_shown_only_as_a_warning(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", predictions({"a": 1.0, "b": 0.8}))
    found = compare(run, method="b", show_naive=True, output=tmp_path)
    (row,) = found.rows
    assert "naive p (warning)" in row
    assert any("not a result" in line for line in found.about)
    assert "naive_p" in json.loads((tmp_path / "comparison.json").read_text())["pairs"][0]


def test_a_comparison_of_other_predictions_is_not_shown(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", predictions({"a": 1.0, "b": 0.8}))
    compare(run)
    assert read_comparison(run) is not None
    table = pd.read_csv(run / "predictions.csv")
    table.iloc[::-1].to_csv(run / "predictions.csv", index=False)
    assert read_comparison(run) is None
    refresh_report(run)
    html = (run / "report.html").read_text()
    assert "No paired comparison was made" in html
    assert "What may be claimed" not in html


def test_several_runs_on_the_same_folds(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", predictions({"momkd": 1.0, "abmil": 0.5}))
    two = run_folder(tmp_path / "two", predictions({"momkd": 1.2}))
    found = compare(one, two, method="two/momkd", output=tmp_path / "out")
    assert [p.other for p in found.comparison.pairs] == ["one/momkd", "one/abmil"]
    assert (tmp_path / "out" / "comparison.csv").exists()
    assert not (one / "comparison.json").exists()
    (row,) = compare(
        one, two, method="abmil", models="abmil,two/momkd", output=tmp_path / "out"
    ).rows
    assert row["against"] == "two/momkd"
    with pytest.raises(ConfigError, match=r"M03.*fits one/momkd, two/momkd"):
        compare(one, two, method="momkd")
    with pytest.raises(ConfigError, match=r"M03.*there are one/momkd"):
        compare(one, two, method="wikg")


def test_a_model_may_be_named_as_it_was_for_its_training(tmp_path: Path) -> None:
    two = run_folder(tmp_path / "two", predictions({"momkd": 1.2}))
    models = {"abmil": 1.0, "momkd-plus": 0.8, "momkd-plus+shuffled": 0.5}
    run = run_folder(tmp_path / "run", predictions(models))
    asked = {"method": "momkd:plus", "models": "abmil,momkd:plus,momkd:plus+shuffled"}
    comparison = compare(run, **asked).comparison
    assert comparison.method == "momkd-plus"
    assert [p.other for p in comparison.pairs] == ["abmil", "momkd-plus+shuffled"]
    found = compare(run, two, method="run/momkd:plus", output=tmp_path / "out")
    assert found.comparison.method == "run/momkd-plus"
    with pytest.raises(ConfigError, match=r"M03.*no model 'momkd:code'"):
        compare(run, method="momkd:code")


def test_other_cases_labels_or_folds_are_refused(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", predictions({"a": 1.0}))
    fewer = predictions({"b": 1.0})
    fewer = fewer[fewer["case_id"] != "c007"]
    with pytest.raises(DataError, match=r"M01.*1 missing, 0 more \(first: c007\)"):
        compare(run, run_folder(tmp_path / "fewer", fewer))
    turned = predictions({"b": 1.0})
    turned.loc[turned["case_id"] == "c003", "y_true"] ^= 1
    with pytest.raises(DataError, match=r"M01.*1 cases have another label"):
        compare(run, run_folder(tmp_path / "turned", turned))
    once = predictions({"b": 1.0}, seeds=1)
    with pytest.raises(DataError, match=r"M02.*seeds 0, not 0 1"):
        compare(run, run_folder(tmp_path / "once", once))
    alone = run_folder(tmp_path / "alone", predictions({"b": 1.0}))
    with pytest.raises(DataError, match=r"M04.*got 1 model"):
        compare(alone)
    with pytest.raises(ConfigError, match=r"M05.*majority_rate"):
        compare(run, alone, metric="majority_rate")
    with pytest.raises(ConfigError, match=r"M05.*--rope"):
        compare(run, alone, rope=0.0)


# --- tables from elsewhere


def plain(tmp_path: Path, name: str, **columns: object) -> Path:
    rng = np.random.default_rng(len(name))
    y = np.arange(60) % 2
    base = {"case_id": [f"c{i}" for i in range(60)], "y_true": y, "prob_yes": rng.random(60)}
    table = pd.DataFrame(base | columns)
    table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path / f"{name}.csv"


def test_tables_without_repeats_are_compared_as_they_are(tmp_path: Path) -> None:
    one, three = plain(tmp_path, "one"), plain(tmp_path, "three", fold=np.arange(60) // 20)
    found = compare(one, three, predictions=True)
    assert found.comparison.test == DELONG
    assert found.comparison.method == "one"
    assert found.folder is None
    assert any("case by case" in line for line in found.about)
    raw = plain(tmp_path, "bare", prob_yes=np.linspace(-4, 9, 60))
    ranked = compare(one, raw, predictions=True, output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["test"] == DELONG
    assert ranked.comparison.pairs[0].other == "bare"
    with pytest.raises(DataError, match=r"P17.*row 2 column prob_yes.*0 to 1.*such cells"):
        compare(one, raw, predictions=True, metric="brier")


def test_tables_with_repeats_get_the_corrected_test(tmp_path: Path) -> None:
    table = predictions({"a": 1.0, "b": 0.2})
    table.to_csv(tmp_path / "both.csv", index=False)
    found = compare(tmp_path / "both.csv", predictions=True)
    assert found.comparison.test == CORRECTED_T
    assert found.comparison.test_over_train == pytest.approx(1 / 3)
    assert any("if all cases not tested were trained on" in line for line in found.about)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"y_true": ["yes"] * 60}, r"row 2 column y_true: got 'yes', wanted 0 or 1 \(60 such"),
        ({"prob_yes": ["0,5"] * 60}, r"column prob_yes: got '0,5', wanted a number"),
        ({"prob_yes": [""] + ["0.5"] * 59}, r"column prob_yes: got a blank.*leave cases"),
        ({"prob_yes": ["inf"] * 60}, r"column prob_yes: got 'inf'"),
        ({"prob_yes": ["1.5"] * 60}, r"wanted a probability"),
        ({"fold": [0.5] * 60}, r"column fold: got '0.5', wanted a whole number"),
        ({"case_id": ["c"] * 60, "y_true": [1] * 60}, r"case c is listed twice"),
        (
            {"case_id": ["c"] * 60, "slide_id": [f"s{i}" for i in range(60)]},
            r"case c has two labels",
        ),
        (
            {"case_id": ["c"] * 60, "y_true": [1] * 60, "fold": range(60)},
            r"case c stands in two folds of one seed",
        ),
    ],
)
def test_bad_cells_are_refused_with_their_place(tmp_path: Path, columns, wanted: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)P17.*{wanted}"):
        read_prediction_table(plain(tmp_path, "bad", **columns))


def test_a_table_with_one_probability_gains_the_other(tmp_path: Path) -> None:
    table = read_prediction_table(plain(tmp_path, "one"))
    assert table["prob_rest"].to_numpy() == pytest.approx(1 - table["prob_yes"].to_numpy())
    assert list(table.columns).index("prob_yes") > list(table.columns).index("prob_rest")
    assert set(table["model"]) == {"one"}
    with pytest.raises(DataError, match=r"P17.*case_id, y_true"):
        read_prediction_table(_without(tmp_path, "y_true"))


def _without(tmp_path: Path, column: str) -> Path:
    path = plain(tmp_path, "less")
    pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    return path


# --- real predictions


@pytest.mark.parametrize(
    ("task", "clam", "graph", "n"),
    [("HER2", 0.675, 0.596, 678), ("PR", 0.795, 0.766, 969), ("ER", 0.874, 0.853, 972)],
)
def test_published_predictions(
    shared_data: Path, tmp_path: Path, task: str, clam: float, graph: float, n: int
) -> None:
    """The AUROCs that the data's page states, and CLAM against SlideGraph on the same cases."""
    folder = shared_data / "published-predictions"
    for name in ("CTransPath_CLAM", "SHUFFLE_SGraph"):
        table = pd.read_csv(folder / f"tcga_brca_{name}.csv")
        part = table[["Patient ID", task, f"P_{task}", f"{task}_fold_idx"]].dropna()
        part.columns = pd.Index(["case_id", "y_true", "prob_positive", "fold"])
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    found = compare(
        tmp_path / "CTransPath_CLAM.csv", tmp_path / "SHUFFLE_SGraph.csv", predictions=True
    )
    (pair,) = found.comparison.pairs
    assert found.comparison.n_cases == n
    assert round(pair.score, 3) == clam
    assert round(pair.score_other, 3) == graph
    assert pair.delong is not None
    # two roads to the same variance
    assert pair.delong.standard_error == pytest.approx(pair.bootstrap.standard_error, rel=0.1)
    assert (pair.delong.p < 0.05) == (pair.bootstrap.p < 0.05) == (task == "HER2")
