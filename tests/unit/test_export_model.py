"""A trained model goes out whole, is refused where it cannot, and comes back to the bit."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml

import momkd
from momkd.data.graph import nearest_neighbours
from momkd.errors import ConfigError, DataError, IntegrityError, MachineError, ModelError
from momkd.models import table
from momkd.predictor import Ensemble, Predictor, load_predictor, save_predictor
from momkd.serving.card import Card, plain
from momkd.storage import canonical_json, digest_bytes, write_folder, write_json
from momkd.types import Bag, Dims
from momkd.workflows import export_onnx
from momkd.workflows.export_model import export_model
from momkd.workflows.export_predictions import export_predictions
from momkd.workflows.predict import load_ensembles

DIM = 6
NASTY = 'HER2 |\n---\nlicense: mit\n# <script>alert(1)</script> [a](b) "x": y'


def make_predictor(name: str = "abmil", seed: int = 0, **changed: object) -> Predictor:
    torch.manual_seed(seed)
    options = {"dim": 8, "dim_attention": 4} if name == "abmil" else {}
    model = table.build_model(name, Dims(dim_in=DIM), options=options)
    facts = {
        "model": name,
        "options": model.options.model_dump(mode="json"),
        "dims": {"dim_in": DIM},
        "task": "HER2",
        "class_names": ("negative", "positive"),
        "encoder": "uni_v2",
        "temperature": 1.3 + seed,
        "offset": 0.1 * seed,
        "thresholds": {"max_f1": 0.4 + 0.1 * seed, "sensitivity_95": 0.2},
        "threshold_rule": "max_f1",
        "provenance": {"cohort": "ab" * 32, "fold": seed},
        "seen_slides": ("cd" * 32,),
    }
    return Predictor(model, Card(**(facts | changed)))


def make_run(folder: Path, models: tuple[str, ...] = ("abmil",), **changed: object) -> Path:
    """A finished run of two folds, as ``crossval`` leaves it."""
    jobs = [f"{name}/seed-0/fold-{fold}" for name in models for fold in (0, 1)]
    for job in jobs:
        name, _, fold = job.split("/")
        one = make_predictor(name.partition("-")[0], int(fold[-1]), **changed)
        save_predictor(one, folder / job / "predictor")
        write_json(folder / job / "done.json", {})
    card = make_predictor(models[0], **changed).card
    names = list(card.class_names)
    run = {
        "models": [*models, "clinical_logistic"],
        "not_served": ["clinical_logistic"],
        "jobs": jobs,
        "task": card.task,
        "class_names": names,
        "proof": {"protocol": "2 folds by case"},
        "machine": {"python": "3.11", "torch": "2.13", "numpy": "2.4"},
        "target_notes": [],
    }
    write_json(folder / "run.json", run)
    rows = [
        {
            "case_id": f"C{i}",
            "slide_id": f"C{i}-A",
            "feature_path": "",
            "rna_id": "r" * (i % 2),
            "site": f"S{i % 3}",
            "label": i % 2,
            "class_name": names[i % 2],
        }
        for i in range(10)
    ]
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    figure = {"value": 0.8123, "low": 0.71, "high": 0.9}
    means = {"auroc": figure, "brier": {"value": 0.2, "low": 0.1, "high": None}}
    entry = {"n_cases": 10, "n_fits": 2, "mean_over_folds": means, "pooled": {"auprc": figure}}
    entry["auroc_if_trained_again"] = {"value": 0.8123, "low": 0.5, "high": 1.1}
    write_json(folder / "metrics.json", {"models": dict.fromkeys(models, entry)})
    predicted = [
        {
            "case_id": f"C{i}",
            "slide_id": f"C{i}-A",
            "fold": i % 2,
            "split": "test",
            "model": name,
            "seed": 0,
            "y_true": i % 2,
            f"prob_{names[0]}": 0.4,
            f"prob_{names[1]}": 0.6,
            "y_pred": 1,
            "threshold": 0.5,
        }
        for name in models
        for i in range(10)
    ]
    pd.DataFrame(predicted).to_csv(folder / "predictions.csv", index=False)
    return folder


def make_bag(n: int = 9) -> Bag:
    generator = torch.Generator().manual_seed(n)
    return Bag(slide_id=f"s{n}", embeddings=torch.randn(n, DIM, generator=generator))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def same_answer(one: Ensemble, other: Ensemble) -> bool:
    a, b = one.predict(make_bag()), other.predict(make_bag())
    equal = np.array_equal(a.prediction.probabilities, b.prediction.probabilities)
    equal &= np.array_equal(a.prediction.attention, b.prediction.attention)
    return equal and (a.low, a.high) == (b.low, b.high) and one.thresholds == other.thresholds


# --- the Hub's layout


def test_a_run_goes_out_and_comes_back_to_the_bit(run: Path, tmp_path: Path) -> None:
    done = export_model(run, tmp_path / "out", to="hub")
    assert sorted(p.name for p in done.path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    source = load_ensembles(run, "abmil")["abmil"]
    back = momkd.from_pretrained(tmp_path / "out")
    assert len(back.members) == 2
    assert same_answer(source, back)
    assert back.has_seen("cd" * 32)
    (served,) = load_ensembles(tmp_path / "out").values()
    assert same_answer(source, served)
    # and out again, with the same bytes
    export_model(tmp_path / "out", tmp_path / "again", to="hub")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_single_predictor_keeps_its_form(tmp_path: Path) -> None:
    save_predictor(make_predictor(), tmp_path / "p")
    export_model(tmp_path / "p", tmp_path / "out", to="hub")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "p" / name).read_bytes()
    assert load_predictor(tmp_path / "out").card.task == "HER2"
    assert same_answer(
        momkd.from_pretrained(tmp_path / "p"), momkd.from_pretrained(tmp_path / "out")
    )


def test_the_card_says_what_there_is(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "out", to="hub")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc-by-nc-nd-4.0"
    assert facts["base_model"] == "MahmoodLab/UNI2-h"
    (entry,) = facts["model-index"]
    assert entry["name"] == "abmil.uni_v2.HER2"
    assert {"type": "roc_auc", "value": 0.8123, "name": "auroc, mean over folds"} in (
        entry["results"][0]["metrics"]
    )
    for wanted in (
        "2 fold models whose probabilities are averaged",
        "| cases | 10 |",
        "| cases positive | 5 |",
        "| slides | 10 |",
        "| sites | 3 |",
        "| cases with RNA | 5 |",
        "2 folds by case",
        "| auroc, mean over folds | 0.812 \\[0.710, 0.900\\] |",
        "has itself been measured on no case",
        "| max_f1 | 0.4500 |",
        "| 2 | 2.3000 | +0.1000 | 0.5000 |",
        "Research use only",
        "MahmoodLab/UNI2-h",
        digest_bytes((tmp_path / "out" / "model.safetensors").read_bytes()),
        digest_bytes((tmp_path / "out" / "config.json").read_bytes()),
        "| torch | 2.13 |",
    ):
        assert wanted in body, wanted
    assert "cd" * 32 not in body


def test_a_card_of_a_predictor_alone_invents_nothing(tmp_path: Path) -> None:
    save_predictor(make_predictor(encoder="mine"), tmp_path / "p")
    export_model(tmp_path / "p", tmp_path / "out", to="hub")
    text = (tmp_path / "out" / "README.md").read_text()
    facts = yaml.safe_load(text.split("---\n")[1])
    assert facts["license"] == "other"
    assert "model-index" not in facts
    assert "base_model" not in facts
    assert "nothing is known of its cases here" in text
    assert "whose terms are not known here" in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    changed = {"task": NASTY, "class_names": ("=1+1|b", "_c_ &lt;"), "target_notes": (NASTY,)}
    make_run(tmp_path / "run", **changed)
    export_model(tmp_path / "run", tmp_path / "out", to="hub")
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc-by-nc-nd-4.0"
    assert facts["model-index"][0]["name"].endswith(" ".join(NASTY.split()))
    assert "\n---\n" not in body
    assert "<script" not in body.replace("\\<", "")
    assert "](b)" not in body.replace("\\]", "")
    assert "\\_c\\_ \\&lt;" in body
    assert plain("max_f1 _a_ a_") == "max_f1 \\_a\\_ a\\_"


def test_what_was_changed_is_not_loaded(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_model(run, out, to="hub")
    weights = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(IntegrityError, match=r"\[C13\]"):
        momkd.from_pretrained(out)
    (out / "model.safetensors").write_bytes(weights)
    whole = json.loads((out / "config.json").read_text())
    for changed, code in (
        ({"members": whole["members"][:1]}, "C08"),
        ({"members": []}, "C08"),
        ({"members": [*whole["members"], whole["members"][0]]}, "C08"),
        ({"more": 1}, "C08"),
        ({"format_version": 9}, "C12"),
        ({"members": [whole["members"][0], whole["members"][1] | {"task": "PR"}]}, "P11"),
    ):
        (out / "config.json").write_text(canonical_json(whole | changed))
        with pytest.raises(ModelError, match=rf"\[{code}\]"):
            momkd.from_pretrained(out)


# --- what is refused


def test_several_models_need_a_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ("abmil", "mean_logistic"))
    with pytest.raises(
        ModelError, match=r"\[P15\].*2 models of slides: abmil, mean_logistic.*--only"
    ):
        export_model(run, tmp_path / "out", to="hub")
    with pytest.raises(ModelError, match=r"\[P15\].*no model 'wikg'"):
        export_model(run, tmp_path / "out", to="hub", only="wikg")
    with pytest.raises(ModelError, match=r"\[P15\].*reads a table"):
        export_model(run, tmp_path / "out", to="hub", only="clinical_logistic")
    assert not (tmp_path / "out").exists()
    export_model(run, tmp_path / "out", to="hub", only="mean_logistic")
    assert momkd.from_pretrained(tmp_path / "out").card.model == "mean_logistic"
    with pytest.raises(ModelError, match=r"\[P15\].*of model mean_logistic, not of 'abmil'"):
        export_model(tmp_path / "out", tmp_path / "o2", to="hub", only="abmil")


def test_what_is_not_finished_is_refused(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"\[P13\].*neither a run"):
        export_model(tmp_path, out, to="hub")
    (run / "metrics.json").rename(tmp_path / "kept")
    with pytest.raises(DataError, match=r"\[P14\].*momkd evaluate"):
        export_model(run, out, to="hub")
    (tmp_path / "kept").rename(run / "metrics.json")
    (run / "abmil" / "seed-0" / "fold-1" / "done.json").unlink()
    with pytest.raises(DataError, match=r"\[P14\].*1 of 2 trainings of abmil are open"):
        export_model(run, out, to="hub")
    # what train leaves when it is stopped
    trained = tmp_path / "trained"
    write_json(trained / "run.json", {"models": ["abmil"], "jobs": []})
    with pytest.raises(DataError, match=r"\[P14\].*1 of 1 trainings"):
        export_model(trained, out, to="hub")
    assert not out.exists()


def test_a_trained_predictor_has_no_metrics(run: Path, tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    save_predictor(make_predictor(), final / "predictor")
    write_json(final / "done.json", {})
    shutil.copy(run / "cohort.csv", final)
    content = json.loads((run / "run.json").read_text()) | {"models": ["abmil"], "jobs": []}
    write_json(final / "run.json", content)
    export_model(final, tmp_path / "out", to="hub")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "None. It was trained on all cases" in text
    assert "| cases | 10 |" in text
    (final / "cohort.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"\[P13\].*cohort.csv"):
        export_model(final, tmp_path / "o2", to="hub")


def test_nothing_is_overwritten_unasked(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is free
    export_model(run, out, to="hub")
    before = {p: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(ConfigError, match=r"\[G08\].*--force"):
        export_model(run, out, to="hub")
    export_model(run, out, to="hub", force=True)
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    (out / "thesis.docx").write_text("precious")
    with pytest.raises(ConfigError, match=r"\[G08\].*thesis.docx.*not replaced"):
        export_model(run, out, to="hub", force=True)
    assert (out / "thesis.docx").read_text() == "precious"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"\[G08\].*a file already"):
        export_model(run, tmp_path / "file", to="hub", force=True)
    (tmp_path / "a.onnx").write_text("x")
    with pytest.raises(ConfigError, match=r"\[G08\].*--force"):
        export_model(run, tmp_path / "a.onnx", to="onnx")
    with pytest.raises(ConfigError, match=r"\[G18\].*model.onnx"):
        export_model(run, tmp_path / "model", to="onnx")
    with pytest.raises(ConfigError, match=r"\[G16\].*hub, onnx, stamp-csv, clam-csv"):
        export_model(run, tmp_path / "o", to="torchscript")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    write_folder(tmp_path / "f", {"a": b"1", "b/c": b"2"})
    real = os.fsync
    n_calls = []

    def fail(handle: int) -> None:
        n_calls.append(handle)
        if len(n_calls) > 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr("momkd.storage.os.fsync", fail)
    with pytest.raises(MachineError, match=r"\[X10\].*No space left"):
        write_folder(tmp_path / "f", {"a": b"3", "b/c": b"4"})
    assert (tmp_path / "f" / "a").read_bytes() == b"1"
    assert (tmp_path / "f" / "b" / "c").read_bytes() == b"2"


# --- the ONNX file


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    run = make_run(folder / "run")
    done = export_model(run, folder / "model.onnx", to="onnx")
    assert "differs from torch by" in done.what
    return run, folder / "model.onnx"


def test_the_file_alone_is_enough_to_predict(graph: tuple[Path, Path]) -> None:
    run, path = graph
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["embeddings"]
    assert [o.name for o in session.get_outputs()] == ["probabilities", "attention", "logits"]
    (ensemble,) = load_ensembles(run, "abmil").values()
    bag = make_bag(31)
    found, attention, _ = session.run(None, {"embeddings": bag.embeddings.numpy()})
    wanted = ensemble.predict(bag).prediction
    np.testing.assert_allclose(found, wanted.probabilities, atol=1e-6)
    np.testing.assert_allclose(attention, wanted.attention, atol=1e-6)
    assert [p.name for p in path.parent.iterdir() if p.name.startswith("model")] == ["model.onnx"]


def test_the_metadata_say_what_the_graph_does_not_hold(graph: tuple[Path, Path]) -> None:
    session = onnxruntime.InferenceSession(graph[1], providers=["CPUExecutionProvider"])
    raw = session.get_modelmeta().custom_metadata_map
    facts = {key: json.loads(value) for key, value in raw.items() if key.startswith("momkd.")}
    assert facts["momkd.threshold"] == pytest.approx(0.45)
    assert facts["momkd.class_names"] == ["negative", "positive"]
    assert facts["momkd.calibration"]["in_graph"] is True
    assert [m["temperature"] for m in facts["momkd.calibration"]["members"]] == [1.3, 2.3]
    assert facts["momkd.embeddings"]["encoder"] == "uni_v2"
    assert facts["momkd.neighbours"] is None
    assert facts["momkd.licence"] == "cc-by-nc-nd-4.0"
    assert facts["momkd.checked"]["tiles"] == [1, 2, 9, 60, 500]
    weights = load_predictor(graph[0] / "abmil/seed-0/fold-0/predictor").card.weights_sha256
    assert facts["momkd.weights_sha256"][0] == weights


def test_a_graph_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch) -> None:
    real = export_onnx.run_session

    def spoiled(*args: object) -> dict[str, np.ndarray]:
        found = real(*args)
        return found | {"attention": found["attention"] + np.float32(2e-5)}

    monkeypatch.setattr(export_onnx, "run_session", spoiled)
    with pytest.raises(IntegrityError, match=r"\[C15\].*differs from torch by"):
        export_model(run, tmp_path / "a.onnx", to="onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_a_missing_extra_and_a_model_without_graph(run: Path, tmp_path: Path, monkeypatch) -> None:
    dealt = make_run(tmp_path / "dealt", ("dtfd_mil",))
    with pytest.raises(ModelError, match=r"\[C14\] model dtfd_mil.*randperm.*--to hub"):
        export_model(dealt, tmp_path / "a.onnx", to="onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MachineError, match=r"\[E01\] onnxscript: not installed.*momkd\[onnx\]"):
        export_model(run, tmp_path / "a.onnx", to="onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_the_recipe_for_neighbours_is_the_readers(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (recipe,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "cKDTree" in b]
    rng = np.random.default_rng(0)
    places = rng.permutation(144)[:90]
    coords = np.stack([places % 12, places // 12], axis=1) * 512
    found: dict[str, object] = {"coords": coords, "embeddings": np.zeros((90, 1)), "step": 512}
    exec(recipe, found)
    np.testing.assert_array_equal(found["near"], nearest_neighbours(found["coords"], 8))


# --- tables


def test_a_preset_may_be_named_as_it_was_for_its_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ("abmil", "mean_logistic-small"))
    export_model(run, tmp_path / "hub", to="hub", only="mean_logistic:small")
    assert momkd.from_pretrained(tmp_path / "hub").card.model == "mean_logistic"
    assert list(load_ensembles(run, "mean_logistic:small")) == ["mean_logistic-small"]
    export_model(run, tmp_path / "csv", to="clam-csv", only="mean_logistic:small")
    assert (tmp_path / "csv" / "fold_0.csv").exists()
    with pytest.raises(ModelError, match=r"\[P15\].*'abmil:small'"):
        export_model(run, tmp_path / "none", to="hub", only="abmil:small")


def test_tables_of_predictions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", class_names=("-", "=HYPERLINK(1)"), task="@er")
    export_model(run, tmp_path / "s", to="stamp-csv")
    found = pd.read_csv(tmp_path / "s" / "split-1" / "patient-preds.csv")
    assert list(found.columns) == [
        "PATIENT",
        "'@er",
        "pred",
        "'@er_-",
        "'@er_=HYPERLINK(1)",
        "loss",
    ]
    assert set(found["'@er"]) == {"'=HYPERLINK(1)"}
    assert (found["loss"] > 0).all()
    export_model(run, tmp_path / "c", to="clam-csv", only="abmil")
    assert list(pd.read_csv(tmp_path / "c" / "fold_0.csv").columns) == [
        *("slide_id", "Y", "Y_hat", "p_0", "p_1")
    ]
    with pytest.raises(ConfigError, match=r"\[G08\]"):
        export_model(run, tmp_path / "c", to="clam-csv")
    export_model(run, tmp_path / "c", to="clam-csv", force=True)
    with pytest.raises(ModelError, match=r"\[P15\].*'wikg'"):
        export_model(run, tmp_path / "d", to="clam-csv", only="wikg")
    with pytest.raises(DataError, match=r"\[P13\]"):
        export_model(tmp_path / "c", tmp_path / "d", to="clam-csv")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("case", ["=cmd()", "+1", "-2", "@x", "\t=1", "\u00a0=1", " -"])
def test_cells_that_would_be_formulas_are_quoted(tmp_path: Path, case: str) -> None:
    run = make_run(tmp_path / "run")
    table = pd.read_csv(run / "predictions.csv")
    table.loc[0, ["case_id", "slide_id"]] = case
    table.to_csv(run / "predictions.csv", index=False)
    export_predictions(run, tmp_path / "s", convention="stamp")
    found = pd.read_csv(tmp_path / "s" / "split-0" / "patient-preds.csv", dtype=str)
    assert f"'{case}" in set(found["PATIENT"])
    export_predictions(run, tmp_path / "c", convention="clam")
    found = pd.read_csv(tmp_path / "c" / "fold_0.csv", dtype=str)
    assert f"'{case}" in set(found["slide_id"])


def test_names_of_models_make_no_paths(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    table = pd.read_csv(run / "predictions.csv")
    table.loc[0, "model"] = "../../evil"
    table.to_csv(run / "predictions.csv", index=False)
    with pytest.raises(DataError, match=r"\[P13\].*evil"):
        export_predictions(run, tmp_path / "out", convention="clam")
    assert not (tmp_path / "out").exists()
