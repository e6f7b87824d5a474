"""momkd reproduce without trainings: runs are written by hand, the rest is as it is."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from sklearn.metrics import f1_score, roc_auc_score

import momkd
from momkd.errors import (
    ConfigError,
    DataError,
    InterruptedRunError,
    ModelError,
    TooManyDroppedError,
)
from momkd.evaluation.corrected_tests import corrected_t
from momkd.models.table import MODELS
from momkd.workflows import reproduce as verb
from momkd.workflows.atlas.figure import Figure4
from momkd.workflows.audit import AuditedCohort
from momkd.workflows.reproduce import tell_reproduction
from momkd.workflows.reproduction import method_tables, running, tissue_figure
from momkd.workflows.reproduction.arms import METHODS, Plan, base_arm, method_arm, momkd_arm
from momkd.workflows.reproduction.memory_tables import ABLATIONS, MEMORIES, arms_of_ablation
from momkd.workflows.reproduction.profiles import COMMON_BUDGET, PROFILES, lay_profile
from momkd.workflows.reproduction.published import (
    footnotes_of,
    published_figures,
    read_published,
    task_of,
)
from momkd.workflows.reproduction.targets import TARGETS
from momkd.workflows.settings import dump_settings, load_settings, parse_models
from tests.run_folders import write_run

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "her2.yaml"
    path.write_text(
        "data: {features: f, clinical: c.csv, rna: r.csv,"
        " target: {column: HER2, positive: HER2, negative: no HER2}}\n"
        "folds: {n: 3}\n",
        encoding="utf-8",
    )
    return path


class Trainer:
    """Stands for crossval: writes a finished run at once, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stop_at = ""
        self.drops_in = ""
        self.n_cases = 90

    def __call__(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        seeds: int,
        workers,
        set_,
        max_skip: float,
        method: str,
    ) -> Path:
        assert method == "momkd"
        settings = load_settings(files, set_)
        (choice,) = parse_models(None, settings)
        self.asked.append(folder.name)
        if folder.name == self.stop_at:
            raise InterruptedRunError.of("T02", folder.name, "stopped", "run it again")
        made = folder.with_name(f"{folder.name}-new")
        write_run(made, [choice.label], n=self.n_cases, seeds=seeds)
        (made / "config.yaml").write_text(dump_settings(settings))
        shutil.copytree(made, folder, dirs_exist_ok=True)
        shutil.rmtree(made)
        if folder.name == self.drops_in:
            raise TooManyDroppedError.of("S20", "slides", "2 of 90 slides were skipped")
        return folder


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(running, "crossval", made)
    monkeypatch.setattr(tissue_figure, "draw_figure4", drawn_without_a_predictor)
    return made


def drawn_without_a_predictor(run: Path, work: Path, *, slides: Sequence[Path]) -> Figure4:
    """Stands for the atlas, which wants predictors; the journey draws it from a real run."""
    records = [
        {"class": "positive", "slot": 1, "share_of_evidence": 0.5, "cosine": 0.9 - 0.1 * rank}
        for rank in range(2)
    ]
    return Figure4(figure=Figure(), caption="Slots.", records=records)


def plan_of(config: Path, folder: Path, *set_: str, profile: str = "full") -> Plan:
    files = lay_profile(folder, PROFILES[profile], [config])
    settings = load_settings(files, set_)
    chosen = PROFILES[profile]
    return Plan(folder=folder, files=files, set_=set_, settings=settings, profile=chosen, seeds=1)


# --- what is made again


def test_all_targets_share_their_arms_and_say_what_is_left_out(
    config: Path, tmp_path: Path, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    made = momkd.reproduce("all", config, out, profile="quick")
    assert list(made.tables) == [name for name in TARGETS if name != "table2"]
    assert list(made.left_out) == ["table2"]
    # nine methods, five ablations, two memories, two more sizes; MoMKD itself once
    assert len(trainer.asked) == len(set(trainer.asked)) == 9 + 5 + 2 + 2
    assert trainer.asked[0] == "momkd"
    assert "table2 left out: needs a cohort" in capsys.readouterr().err
    assert any("table2 left out" in line for line in tell_reproduction(made))
    index = (out / "index.md").read_text()
    assert "| table2 | nine methods on an external cohort | left out: needs a cohort" in index
    for name, files in made.files.items():
        kinds = {Path(f).suffix for f in files}
        figure = {".pdf", ".svg"} if name.startswith("figure") else set()
        assert kinds == {".md", ".tex", ".csv", ".json"} | figure
        assert all((out / f).stat().st_size for f in files)
        for kind in ("md", "tex"):
            assert (
                "no figure here says how good a method is" in (out / f"{name}.{kind}").read_text()
            )
        assert set(pd.read_csv(out / f"{name}.csv")["profile"]) == {"quick"}
    assert "a trial of the road" in (out / "figure3.svg").read_text()
    assert made.tables["figure4"].rows == [
        {"class": "positive", "slot": "1", "share": "0.50", "n_tiles": "2", "cosine": "0.90"}
    ]
    assert "no --slides were given" in (out / "figure4.md").read_text()


def test_finished_arms_are_not_repeated_and_an_interrupted_one_goes_on(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    out = tmp_path / "out"
    trainer.stop_at = "momkd-memory-fixed"
    with pytest.raises(InterruptedRunError):
        momkd.reproduce(["figure3", "table4"], config, out, seeds=1)
    assert (out / "figure3.md").exists() is False  # table4 comes first in the table of targets
    trainer.stop_at = ""
    trainer.asked.clear()
    momkd.reproduce(["figure3", "table4"], config, out, seeds=1)
    assert trainer.asked == ["momkd-memory-fixed", "momkd-memory-ema"]
    trainer.asked.clear()
    before = (out / "table4.json").read_bytes()
    momkd.reproduce("table4", config, out, seeds=1)
    assert trainer.asked == []
    assert (out / "table4.json").read_bytes() == before
    once = pd.read_csv(out / "table4.csv")
    # more repeats are more work for every arm, and fewer none
    momkd.reproduce("table4", config, out, seeds=2)
    assert trainer.asked == ["momkd", "momkd-memory-fixed", "momkd-memory-ema"]
    assert pd.read_csv(out / "table4.csv")["n_fits"].tolist() == [6, 6, 6]
    momkd.reproduce("table4", config, out, seeds=1)
    assert len(trainer.asked) == 3
    again = pd.read_csv(out / "table4.csv")
    figures = ["n_fits", "auroc", "auroc_sd", "auroc_low", "difference", "p_holm"]
    pd.testing.assert_frame_equal(again[figures], once[figures])


def test_other_settings_in_the_same_folder_are_refused(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    out = tmp_path / "out"
    momkd.reproduce("figure3", config, out, seeds=1)
    with pytest.raises(ConfigError, match=r"T14.*runs/momkd: holds momkd with other options"):
        momkd.reproduce("figure3", config, out, seeds=1, set_=["model.n_slots=8"])
    with pytest.raises(ConfigError, match=r"T14.*differs in fit.epochs"):
        momkd.reproduce("figure3", config, out, seeds=1, set_=["fit.epochs=7"])
    (out / "runs" / "momkd" / "arm.json").write_text("{")
    with pytest.raises(ConfigError, match=r"T14.*arm.json is damaged"):
        momkd.reproduce("figure3", config, out, seeds=1)
    (out / "runs" / "momkd" / "arm.json").unlink()
    with pytest.raises(ConfigError, match=r"T14.*momkd reproduce did not make"):
        momkd.reproduce("figure3", config, out, seeds=1)
    assert trainer.asked == ["momkd"]


def test_too_many_dropped_slides_are_answered_when_all_is_written(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    trainer.drops_in = "momkd"
    with pytest.raises(TooManyDroppedError):
        momkd.reproduce("table4", config, tmp_path / "out", seeds=1)
    assert len(trainer.asked) == 3
    assert (tmp_path / "out" / "table4.json").exists()


def test_arms_of_another_cohort_are_refused(config: Path, tmp_path: Path, trainer: Trainer) -> None:
    out = tmp_path / "out"
    momkd.reproduce("figure3", config, out, seeds=1)
    path = out / "runs" / "momkd" / "run.json"
    path.write_text(path.read_text().replace("c" * 64, "d" * 64))
    with pytest.raises(DataError, match=r"M01.*runs/momkd: .* than momkd-memory-fixed"):
        momkd.reproduce("table4", config, out, seeds=1)
    trainer.n_cases = 87
    shutil.rmtree(out / "runs" / "momkd")
    with pytest.raises(DataError, match=r"M02.*not tested on the folds"):
        momkd.reproduce("table4", config, out, seeds=1)


@pytest.mark.parametrize(
    ("targets", "how", "wanted"),
    [
        ("tabel1", {}, r"G07.*unknown target 'tabel1'; did you mean table1"),
        ([], {}, r"G07.*no target named"),
        ("table2", {}, r"G07.*--external: table2 needs a cohort"),
        (["all", "table2"], {}, r"G07.*--external"),
        ("table1", {"profile": "slow"}, r"G07.*got 'slow', wanted full or quick"),
        ("table1", {"seeds": 0}, r"G07.*--seeds"),
        ("table1", {"set_": ["fit.epoch=1"]}, r"G03.*did you mean epochs"),
    ],
)
def test_wrong_usage_is_refused_before_a_folder_is_made(
    config: Path, tmp_path: Path, targets, how, wanted: str
) -> None:
    with pytest.raises(ConfigError, match=wanted):
        momkd.reproduce(targets, config, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_what_no_arm_could_do_is_refused_before_any_is_trained(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    with pytest.raises(ConfigError, match=r"G12.*cannot learn from the relations"):
        momkd.reproduce("table1", config, tmp_path / "out", set_=["fit.batch_size=1"])
    assert trainer.asked == []


# --- the numbers


def test_cells_are_those_of_the_predictions(config: Path, tmp_path: Path, trainer: Trainer) -> None:
    out = tmp_path / "out"
    made = momkd.reproduce("table1", config, out, seeds=2)
    folds = {name: _by_hand(out / "runs" / name / "predictions.csv") for name in METHODS}
    rows = {row["run"]: row for row in made.tables["table1"].rows}
    flat = pd.read_csv(out / "table1.csv").set_index("row")
    assert list(flat.index) == list(METHODS)
    for name, by_hand in folds.items():
        row = rows[f"runs/{name}"]
        for key in ("auroc", "accuracy", "macro_f1"):
            mean, sd = by_hand[key].mean(), by_hand[key].std(ddof=1)
            assert row[key] == f"{100 * mean:.1f} ± {100 * sd:.1f}"
            assert flat.loc[name, key] == pytest.approx(mean)
            assert flat.loc[name, f"{key}_sd"] == pytest.approx(sd)
        assert flat.loc[name, "auroc_low"] < by_hand["auroc"].mean() < flat.loc[name, "auroc_high"]
        assert row["majority"] == f"{100 * by_hand['majority'].mean():.1f}"
        assert flat.loc[name, "predictions"] == f"runs/{name}/predictions.csv"
        assert len(flat.loc[name, "predictions_sha256"]) == 64
    apart = (folds["momkd"]["auroc"] - folds["wikg"]["auroc"]).to_numpy()
    wanted = corrected_t(apart, 30 / 48)  # 90 cases in 3 folds, 12 of the others in validation
    assert flat.loc["wikg", "difference"] == pytest.approx(wanted.value)
    assert flat.loc["wikg", "difference_high"] == pytest.approx(wanted.high)
    assert flat.loc["wikg", "p"] == pytest.approx(wanted.p)
    assert flat.loc["wikg", "p"] <= flat.loc["wikg", "p_holm"]
    assert rows["runs/momkd"]["difference"] == ""
    assert np.isnan(flat.loc["momkd", "difference"])
    # HER2 is a label of the paper: printed figures stand beside, the unknown ones blank
    assert rows["runs/mkd"]["published"] == "77.1"
    assert rows["runs/abmil"]["published"] == ""
    assert flat.loc["momkd", "published_auroc"] == pytest.approx(0.796)
    page = (out / "table1.md").read_text()
    assert "668 of 809" in page
    assert "no comparison" in page
    assert (
        "Profile full: at most 50 epochs (patience 10), 16 slides a step, 3 folds, 2 seeds" in page
    )


def _by_hand(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    found = []
    for _, part in table.groupby(["seed", "fold"]):
        y, p = part["y_true"], part["prob_HER2"]
        called = (p >= 0.5).astype(int)
        share = y.mean()
        found.append(
            {
                "auroc": roc_auc_score(y, p),
                "accuracy": (called == y).mean(),
                "macro_f1": f1_score(y, called, average="macro", zero_division=0),
                "majority": max(share, 1 - share),
            }
        )
    return pd.DataFrame(found)


def test_table3_and_figure_s1_take_the_whole_model_as_their_measure(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    made = momkd.reproduce(["table3", "figures1"], config, tmp_path / "out", seeds=1)
    rows = made.tables["table3"].rows
    assert len(rows) == 6
    assert rows[-1]["run"] == "runs/momkd"
    assert rows[-1]["difference"] == ""
    marks = [tuple(r[k] for k in ("align_slide", "align_rna", "reconstruction")) for r in rows]
    assert len(set(marks)) == 6
    sizes = {row["slots"]: row["run"] for row in made.tables["figures1"].rows}
    assert list(sizes) == ["2", "4", "8", "16", "32", "64"]
    assert sizes["16"] == "runs/momkd"
    assert sizes["2"] == "runs/momkd-slots-2"
    assert "16 slots minus it" in made.tables["figures1"].headings["difference"]


def test_figure3_tells_the_memory_epoch_by_epoch(
    config: Path, tmp_path: Path, trainer: Trainer
) -> None:
    out = tmp_path / "out"
    made = momkd.reproduce("figure3", config, out, seeds=1)
    flat = pd.read_csv(out / "figure3.csv")
    assert len(flat) == 3 * 4 * 2  # folds, epochs, classes
    history = pd.read_csv(out / flat["history"].iloc[0])
    part = flat[(flat["history"] == flat["history"].iloc[0]) & (flat["class"] == "no HER2")]
    assert part["perplexity"].tolist() == history["perplexity_0"].tolist()
    assert part.loc[part["kept"], "epoch"].tolist() == [1]
    (negative, positive) = made.tables["figure3"].rows
    assert negative["class"] == "no HER2"
    assert negative["perplexity_epoch kept"] == "8.00 (8.00 to 8.00)"
    assert negative["perplexity_last epoch"] == "6.00 (6.00 to 6.00)"
    assert positive["active_ratio_first epoch"] == "0.80 (0.80 to 0.80)"


# --- the external cohort


def test_table2_is_one_ensemble_with_one_interval(
    config: Path, tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def score(run: Path, audited: object, name: str) -> Path:
        scored.append(run.name)
        rng = np.random.default_rng(len(scored))
        y = np.arange(40) % 4 == 0
        p = 1 / (1 + np.exp(-rng.normal(size=40) - 2 * y))
        table = pd.DataFrame({"case_id": [f"x{i}" for i in range(40)], "y_true": y.astype(int)})
        table = table.assign(model=run.name, seed=0, fold=0, threshold=0.5)
        table = table.assign(**{"prob_no HER2": 1 - p, "prob_HER2": p})
        folder = run / f"external-{name}"
        folder.mkdir()
        table.to_csv(folder / "predictions.csv", index=False)
        return folder

    monkeypatch.setattr(method_tables, "evaluate_external", score)
    monkeypatch.setattr(verb, "open_external", lambda _: _cohort("no HER2", "HER2"))
    out = tmp_path / "out"
    made = momkd.reproduce("table2", config, out, seeds=1, external=tmp_path / "other.yaml")
    assert scored == list(METHODS)
    table = made.tables["table2"]
    assert "external cohort other" in table.title
    assert "interval" not in table.headings
    flat = pd.read_csv(out / "table2.csv").set_index("row")
    path = out / "runs" / "momkd" / "external-other" / "predictions.csv"
    own = pd.read_csv(path)
    assert flat.loc["momkd", "auroc"] == pytest.approx(
        roc_auc_score(own["y_true"], own["prob_HER2"])
    )
    assert flat["auroc_sd"].isna().all()
    assert set(flat["test"].dropna()) == {"DeLong"}
    assert all("±" not in cell for row in table.rows for cell in row.values())
    assert "1,123" in (out / "table2.md").read_text()
    monkeypatch.setattr(verb, "open_external", lambda _: _cohort("low", "high"))
    with pytest.raises(ModelError, match=r"P12.*has classes"):
        momkd.reproduce("table2", config, out, seeds=1, external=tmp_path / "other.yaml")


def _cohort(*names: str) -> Mock:
    opened = Mock(spec=AuditedCohort)
    opened.audit.cohort.class_names = names
    return opened


# --- arms and profiles


def test_equal_settings_are_one_arm(config: Path, tmp_path: Path) -> None:
    plan = plan_of(config, tmp_path)
    base = base_arm(plan)
    assert momkd_arm(plan, "x", {"n_slots": 16}) is not base
    assert momkd_arm(plan, "x", {"n_slots": 16}).name == "momkd"
    assert momkd_arm(plan, "x", {"n_slots": 8}).name == "x"
    assert momkd_arm(plan, "x", {}, control="none").name == "x"
    fixed = plan_of(config, tmp_path, "model.memory_update=fixed")
    assert momkd_arm(fixed, "x", {"memory_update": "fixed"}).name == "momkd"
    assert momkd_arm(fixed, "x", {"memory_update": "learned"}).name == "x"


def test_options_stay_with_their_own_model(config: Path, tmp_path: Path) -> None:
    plan = plan_of(config, tmp_path, "model.weights={ce: 0.7}", "model.n_slots=8")
    assert method_arm(plan, "abmil").choice.options == {}
    arm = momkd_arm(plan, "x", {"weights": {"align_wsi": 0.0}})
    settings = load_settings(plan.files, [*plan.set_, arm.assignment])
    options = settings.model.resolved()
    assert options["n_slots"] == 8
    assert (options["weights"]["ce"], options["weights"]["align_wsi"]) == (0.7, 0.0)
    other = plan_of(config, tmp_path, "model={name: dsmil}")
    assert base_arm(other).choice.name == "momkd"
    quick = plan_of(config, tmp_path, profile="quick")
    assert method_arm(quick, "tdc").choice.resolved()["teacher"]["epochs"] == 4


def test_ablations_take_away_what_they_say(config: Path, tmp_path: Path) -> None:
    plan = plan_of(config, tmp_path)
    arms = {arm.name: arm for arm in arms_of_ablation(plan)}
    assert len(arms) == 6
    for row in ABLATIONS.values():
        choice = arms[row.arm].choice
        weights = choice.resolved()["weights"]
        assert (weights["align_wsi"] > 0) is row.slide
        assert (choice.control == "true_pairs") is row.rna
        if row.rna:
            assert weights["align_omics"] > 0
            assert (weights["reconstruction"] > 0) is row.reconstruction


def test_profiles_lie_below_or_above_the_configuration(config: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((RECIPES / "common-budget.yaml").read_text())
    assert recipe == {"fit": COMMON_BUDGET}
    config.write_text(config.read_text() + "fit: {epochs: 30, batch_size: 4}\n")
    full = plan_of(config, tmp_path).settings
    assert (full.fit.epochs, full.fit.batch_size, full.folds.n) == (30, 4, 3)
    quick = plan_of(config, tmp_path, "fit.epochs=1", profile="quick").settings
    assert (quick.fit.epochs, quick.fit.batch_size, quick.fit.patience) == (1, 4, 4)


def test_the_nine_methods_are_those_of_the_table_of_models() -> None:
    assert set(METHODS) == set(MODELS) - {"mean_logistic"}


# --- what the paper prints


@pytest.mark.parametrize(
    ("label", "task"),
    [
        ("HER2", "HER2"),
        ("her2_status_by_ihc", "HER2"),
        ("PR", "PR"),
        ("pr_status", "PR"),
        ("ODX85", "ODX"),
        ("predicted", ""),
        ("PR and HER2", ""),
        ("biomarker", ""),
    ],
)
def test_labels_of_the_paper_are_known_by_name(label: str, task: str) -> None:
    assert task_of(label) == task


def test_published_figures_are_of_rows_that_exist_and_agree_with_each_other() -> None:
    published = read_published()
    rows = {"table1": set(METHODS), "table4": set(MEMORIES)}
    assert all(f.row in rows[f.table] for f in published.figures)
    assert {one.table for one in published.inconsistencies} <= set(TARGETS)
    of = {(f.table, f.task, f.row): f for f in published.figures}
    assert len(of) == len(published.figures)
    for (table, task, one), (other_table, other), points in (
        (("table1", "PR", "momkd"), ("table1", "transmil"), 2.7),
        (("table1", "ODX", "momkd"), ("table1", "abmil"), 3.0),
        (("table4", "HER2", "learned"), ("table4", "fixed"), 4.4),
        (("table1", "HER2", "momkd"), ("table4", "learned"), 0.0),
    ):
        gap = of[table, task, one].auroc - of[other_table, task, other].auroc
        assert gap == pytest.approx(points), (table, task, one)


def test_what_is_derived_is_in_brackets_and_other_labels_get_nothing() -> None:
    assert published_figures("table1", "PR")["momkd"].text() == "(87.9)"
    assert published_figures("table4", "ODX85")["fixed"].text() == "81.9 ± 2.3"
    assert published_figures("table1", "biomarker") == {}
    told = [note.text for note in footnotes_of("table4", "ODX85")]
    assert any("81.1 ± 2.7" in text for text in told)
    assert all("81.1" not in note.text for note in footnotes_of("table4", "HER2"))
    assert footnotes_of("table1", "biomarker") == []
    assert (
        json.dumps([note.text for note in footnotes_of("table3", "biomarker")]).count("75.2") == 1
    )
