"""``momkd demo``: the whole road on simulated cases, from slide files to a report, offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from momkd.config import parse_options
from momkd.errors import ConfigError
from momkd.simulation import (
    SCENARIOS,
    PaintingOptions,
    SimulationOptions,
    simulate,
    write_cohort,
    write_slide_cohort,
)
from momkd.slides.tiling import TilingOptions
from momkd.workflows.check import check
from momkd.workflows.console import say
from momkd.workflows.crossval import crossval
from momkd.workflows.demo_report import write_demo_report
from momkd.workflows.extract import extract
from momkd.workflows.heatmap import heatmap
from momkd.workflows.init import init
from momkd.workflows.predict import predict
from momkd.workflows.predict_pixels import CPU_BATCH

Source = Literal["slides", "features"]

# a signal strong enough for few cases and small slides
_WORLD: dict[str, Any] = SCENARIOS["easy"] | {
    "rho": 0.5,
    "nu": 3.0,
    "kappa": 3.0,
    "sigma_m": 0.3,
    "n_genes": 400,
    "prevalence": 0.4,
}
_GAPS: dict[str, Any] = {"without_rna": 0.1, "without_slide": 0.05}
_PAINTING = PaintingOptions()
_MODELS = "momkd,abmil,mean_logistic"
_FEWEST_CASES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Where the report is, its table (what was reached against what can be known), and in words."""

    path: Path
    table: str
    notes: tuple[str, ...]
    scores: dict[str, Any]


def demo(
    output: Path | str = "demo-run",
    *,
    n_cases: int = 100,
    n_new: int = 60,
    grid_side: int = 7,
    seed: int = 0,
    source: Source = "slides",
    set_: Sequence[str] = (),
    workers: int | None = None,
) -> DemoReport:
    """Draw slides, extract, cross-validate MoMKD and baselines, predict new slides, report.

    Parameters
    ----------
    output
        Folder; a second call goes on with an interrupted one.
    n_cases, n_new
        Cases to train on (some lack RNA, some a slide, some a usable label), and new ones.
    grid_side
        Tiles along a side of a slide; 60 % of them hold tissue.
    seed
        Of the simulated cohorts.
    source
        ``slides``: pictures are painted, written as pyramidal TIFF, cut and embedded by the default
        encoder. ``features``: the embeddings are drawn; quicker, and needs no extra package.
    set_
        ``KEY=VALUE`` overrides of the configuration.
    workers
        Processes of the cross-validation.

    Raises
    ------
    ConfigError
        G10 too few cases to cut into folds, or to score.
    MachineError
        E01 slides need packages of the extra ``slides``.
    """
    if n_cases < _FEWEST_CASES or n_new < 2:
        what = f"got {n_cases} and {n_new} new ones, wanted {_FEWEST_CASES} and 2 or more"
        raise ConfigError.of("G10", "--cases", what)
    folder = Path(output)
    cohort, new = folder / "cohort", folder / "new-patients"
    world = _WORLD | {"grid_side": grid_side}
    _write(cohort, source, world | _GAPS | {"n_cases": n_cases, "seed": 2 * seed})
    _write(new, source, world | {"n_cases": n_new, "seed": 2 * seed + 1, "equivocal": 0.0})
    if source == "slides":
        say("slides -> tissue -> tiles -> embeddings")
        tiling = TilingOptions(tile_px=_PAINTING.tile_px, mpp=_PAINTING.mpp)
        extract([cohort / "slides"], cohort / "features", tiling=tiling, batch_size=CPU_BATCH)
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
    run = crossval(config, folder / "run", model=_MODELS, set_=set_, workers=workers)
    say("new patients: predicted from their slides alone")
    predict(
        run,
        [new / source],
        folder / "predictions.csv",
        cases=new / "clinical.csv",  # any table with slide_id and case_id will do
        attention=folder / "attention",
        features=new / "features",
        draw=False,
    )
    path, table, notes, scores = write_demo_report(folder, run, new)
    heatmap(
        [folder / "attention" / "momkd" / f"{s}.h5" for s in scores["shown"]],
        folder / "heatmaps",
        thumbnails=new / "features" / "thumbnails",
    )
    return DemoReport(path=path, table=table, notes=notes, scores=scores)


def _write(folder: Path, source: Source, given: dict[str, Any]) -> None:
    """Simulate a cohort and write it, unless it is there."""
    if (folder / "truth.json").exists():
        return
    options = parse_options(SimulationOptions, given, "momkd demo")
    if source == "features":
        say(f"{folder.name}: simulating embeddings and RNA of {options.n_cases} cases")
        write_cohort(simulate(options), folder)
    else:
        say(f"{folder.name}: painting slides and simulating RNA of {options.n_cases} cases")
        write_slide_cohort(simulate(options), folder, _PAINTING)
