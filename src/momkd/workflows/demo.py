"""``momkd demo``: the whole road on a simulated cohort with known truth, offline, in minutes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from momkd.data.features import read_bag
from momkd.errors import ConfigError
from momkd.evaluation.metrics import auroc
from momkd.reporting.heatmap import draw_attention
from momkd.simulation import SCENARIOS, SimulationOptions, simulate, write_cohort
from momkd.storage import write_json
from momkd.workflows.check import check
from momkd.workflows.console import say
from momkd.workflows.crossval import crossval
from momkd.workflows.init import init
from momkd.workflows.predict import predict
from momkd.workflows.run_folder import read_predictions, read_run
from momkd.workflows.run_report import write_run_report
from momkd.workflows.scored_cases import average_slides
from momkd.workflows.tables import make_table, with_interval

# A signal strong enough for few cases; the ceilings are those of exactly these options.
_WORLD: dict[str, Any] = SCENARIOS["easy"] | {"rho": 0.3, "nu": 3.0, "kappa": 2.0, "n_genes": 400}
_GAPS: dict[str, Any] = {"without_rna": 0.1, "without_slide": 0.05}
_HELD_OUT_CASES = 120
_MODELS = "momkd,abmil,mean_logistic"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Where the report is, and its table: what was reached against what can be known."""

    path: Path
    table: str
    scores: dict[str, Any]


def demo(
    output: Path | str = "demo-run",
    *,
    n_cases: int = 160,
    seed: int = 0,
    workers: int | None = None,
) -> DemoReport:
    """Simulate, cross-validate MoMKD and baselines, predict new slides, compare with the ceiling.

    Parameters
    ----------
    output
        Folder; a second call goes on with an interrupted one.
    n_cases
        Cases to train on; some lack RNA, some a slide, some a usable label.
    seed
        Of the simulated cohort.

    Raises
    ------
    ConfigError
        G10 too few cases to cut into folds.
    """
    if n_cases < 60:
        raise ConfigError.of("G10", "--cases", f"got {n_cases}, wanted 60 or more")
    folder = Path(output)
    cohort = folder / "cohort"
    new = folder / "new-patients"
    if not (new / "truth.json").exists():
        say("simulating slides and RNA")
        write_cohort(simulate(_options(n_cases, 2 * seed, **_GAPS)), cohort)
        write_cohort(simulate(_options(_HELD_OUT_CASES, 2 * seed + 1, equivocal=0.0)), new)
    config = folder / "momkd.yaml"
    if not config.exists():
        init(
            features=[cohort / "features"],
            clinical=cohort / "clinical.csv",
            rna=cohort / "rna.csv.gz",
            target="biomarker",
            output=config,
        )
    for note in check(config).notes:
        say(note)
    run = crossval(config, folder / "run", model=_MODELS, workers=workers)
    predict(
        run,
        [new / "features"],
        folder / "predictions.csv",
        cases=new / "clinical.csv",  # any table with slide_id and case_id will do
        attention=folder / "attention",
    )
    return _report(folder, run, new)


def _options(n_cases: int, seed: int, **changed: Any) -> SimulationOptions:
    return SimulationOptions(**(_WORLD | changed | {"n_cases": n_cases, "seed": seed}))


def _report(folder: Path, run: Path, new: Path) -> DemoReport:
    truth = json.loads((new / "truth.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    cases = pd.read_csv(folder / "predictions_cases.csv", dtype={"case_id": str})
    rows = []
    for name, part in cases.groupby("model", sort=False):
        labels = np.array([truth["cases"][c]["recorded_label"] for c in part["case_id"]])
        reached = auroc(labels, part["prob_positive"].to_numpy())
        inner = metrics["models"][name]["mean_over_folds"]["auroc"]
        across = with_interval(inner["value"], inner["low"], inner["high"])
        rows.append({"model": name, "cross-validation": across, "new patients": f"{reached:.3f}"})
    bayes = {
        case: np.mean(
            [s["bayes_probability"] for s in truth["slides"].values() if s["case_id"] == case]
        )
        for case in cases["case_id"].unique()
    }
    labels = np.array([truth["cases"][c]["recorded_label"] for c in bayes])
    best = auroc(labels, np.array(list(bayes.values())))
    rows.append(
        {"model": "ceiling: exact posterior", "cross-validation": "", "new patients": f"{best:.3f}"}
    )
    scores = {"rows": rows, "ceilings": truth["ceilings"]}
    write_json(folder / "scores.json", scores)
    table = make_table(rows)
    path = write_run_report(
        folder,
        read_run(run),
        metrics,
        average_slides(read_predictions(run)),
        dropped=run / "dropped.csv",
        configuration=run / "config.yaml",
        extra_tables={"AUROC against what can be known (simulated)": rows},
        attention=_attention_figure(folder, new, truth),
    )
    return DemoReport(path=path, table=table, scores=scores)


def _attention_figure(folder: Path, new: Path, truth: dict[str, Any]) -> Any:
    """Draw attention of MoMKD beside the niche on the new slide most clearly positive."""
    slides = truth["slides"]
    slide_id = max(slides, key=lambda s: (slides[s]["bayes_probability"], s))
    with h5py.File(folder / "attention" / "momkd" / f"{slide_id}.h5", "r") as file:
        attention = file["attention"][:]
    bag = read_bag(new / "features" / f"{slide_id}.h5")
    if bag.grid is None:
        raise TypeError("simulated slides have coordinates")
    with h5py.File(new / "features" / f"{slide_id}.h5", "r") as file:
        niche = file["coords"][:][slides[slide_id]["niche_tiles"]]
    places = {tuple(c) for c in niche.tolist()}
    mask = np.array([tuple(c) in places for c in bag.grid.coords_px0.tolist()])
    return draw_attention(bag.grid, attention, title=f"{slide_id}: MoMKD attention", truth=mask)
