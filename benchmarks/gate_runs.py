"""The trainings behind the hard gates: what is run, how, and what came of it."""

import csv
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from gate_verdicts import Scored

import momkd
from momkd.errors import MomkdError
from momkd.models.table import MODELS
from momkd.simulation import SCENARIOS, SimulationOptions, simulate, write_cohort
from momkd.workflows.console import set_quiet
from momkd.workflows.truth import score_attention, score_morphology

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "common-budget.yaml"
CONTROLS = ("+no_rna", "+shuffled")
# more steps than the common budget has on so few cases, and no plateau that ends them early
BUDGET = (
    *("folds.val_fraction=0.2", "fit.lr=1e-3", "fit.schedule=cosine"),
    *("fit.epochs=30", "fit.patience=15"),
)
# 600 cases teach nobody what 3 % of 154 tiles show: half of the tumour is niche, and plain
LEARNABLE: dict[str, Any] = {"rho": 0.5, "nu": 3.0, "kappa": 2.0, "grid_side": 8}
LEARNABLE |= {"dim": 24, "n_genes": 400}
# TransMIL as published takes ten minutes a training here, and learns no more of 38 tiles; MKD's
# published weights let the relations between its networks drown the cross-entropy (AUROC .49)
LIGHT_MKD = (
    *("model.name=mkd", "model.weights.relations=0.01", "model.weights.alignment=0.01"),
    *("model.weights.orthogonality=0.01", "model.weights.divergence=0.1"),
)
NARROW_TRANSMIL = ("model.name=transmil", "model.dim=64", "model.n_landmarks=32")
OWN = {"transmil": NARROW_TRANSMIL, "mkd": LIGHT_MKD}
SLOW_FIRST = ("transmil", "g_hanet", "tdc", "wikg")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all results of a work folder have in common."""

    n_train: int = 750  # a fifth of them is held out to choose the epoch
    n_new: int = 1500
    n_worlds: int = 2
    world: dict[str, Any] = field(default_factory=lambda: dict(LEARNABLE))
    budget: tuple[str, ...] = BUDGET
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)  # settings of what is no model


@dataclass(frozen=True, order=True)
class Job:
    """One training."""

    scenario: str
    seed: int
    model: str

    def folder(self, work: Path) -> Path:
        """Give where its scenario and seed lie."""
        return work / self.scenario / f"seed-{self.seed}"

    def table(self, work: Path, what: str) -> Path:
        """Give the path of a table of it: ``cases``, ``attention``, ``morphology``."""
        return self.folder(work) / f"{self.model}_{what}.csv"


def all_jobs(models: Sequence[str], scenarios: Sequence[str], n_seeds: int) -> list[Job]:
    """Give every training, the slow ones first; controls where there is something to learn."""
    jobs = []
    for scenario in scenarios:
        names = list(models)
        if scenario != "null":
            names += [m + c for m in models if MODELS[m].needs_rna for c in CONTROLS]
        jobs += [Job(scenario, seed, name) for seed in range(n_seeds) for name in names]

    def slowness(job: Job) -> int:
        name = job.model.partition("+")[0]
        return SLOW_FIRST.index(name) if name in SLOW_FIRST else len(SLOW_FIRST)

    return sorted(jobs, key=lambda job: (slowness(job), job.seed))


def make_cohorts(scenario: str, seed: int, work: Path, plan: Plan) -> None:
    """Simulate the cases to learn from and the new ones, unless they are there."""
    folder = Job(scenario, seed, "").folder(work)
    common = SCENARIOS[scenario] | plan.world | {"world": seed % plan.n_worlds, "equivocal": 0.0}
    # of a case with two slides, the mean of two posteriors is not the exact one
    common |= {"two_slides": 0.0}
    for name, n_cases, draw in (
        ("train", plan.n_train, 2 * seed),
        ("new", plan.n_new, 2 * seed + 1),
    ):
        if not (folder / name / "truth.json").exists():
            options = SimulationOptions(**common | {"n_cases": n_cases, "seed": draw})
            write_cohort(simulate(options), folder / name)
    (folder / "momkd.yaml").write_text(
        "data:\n  features: train/features\n  clinical: train/clinical.csv\n"
        "  rna: train/rna.csv.gz\n"
        "  target: {column: biomarker, positive: positive, negative: negative}\n",
        encoding="utf-8",
    )


def run_job(job: Job, work: Path, plan: Plan) -> float:
    """Train, score the new cases, and score what was looked at; give the minutes it took."""
    set_quiet(True)
    started_s = time.monotonic()
    folder = job.folder(work)
    place, new = folder / job.model, folder / "new"
    config = [folder / "momkd.yaml", RECIPE]
    model = None if job.model in plan.arms else job.model
    # a control of a model has the model's own settings
    own = plan.arms.get(job.model, plan.arms.get(job.model.partition("+")[0], ()))
    set_ = (*plan.budget, *own)
    predictor = momkd.train(config, place, model=model, seed=job.seed, set_=set_)
    attention = place / "attention"
    table = folder / f"{job.model}.csv"
    momkd.predict(
        predictor,
        [new / "features"],
        table,
        cases=new / "clinical.csv",
        attention=attention,
        max_skip=0.0,  # arms are compared on the same cases
    )
    truth = new / "truth.json"
    score_attention(truth, attention).to_csv(job.table(work, "attention"), index=False)
    shutil.rmtree(attention)
    kept = score_morphology(truth, predictor, new / "features", n_permutations=20)
    kept.to_csv(job.table(work, "morphology"), index=False)
    (folder / f"{job.model}_refused.txt").unlink(missing_ok=True)
    # the mark of a finished job comes last
    table.with_name(f"{job.model}_cases.csv").rename(job.table(work, "done"))
    return (time.monotonic() - started_s) / 60


def run_all(jobs: Sequence[Job], work: Path, plan: Plan, n_workers: int) -> None:
    """Run what is not done; a refusal is kept beside its tables and stops nothing else."""
    open_ = [job for job in jobs if not job.table(work, "done").exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        places = sorted({(job.scenario, job.seed) for job in open_})
        for made in [pool.submit(make_cohorts, *place, work, plan) for place in places]:
            made.result()
        running = {pool.submit(run_job, job, work, plan): job for job in open_}
        for number, done in enumerate(as_completed(running), start=1):
            job = running[done]
            try:
                said = f"{done.result():.1f} minutes"
            except MomkdError as error:
                said = f"refused: {error}"
                (job.folder(work) / f"{job.model}_refused.txt").write_text(str(error))
            name = f"{job.scenario} seed {job.seed} {job.model}"
            print(f"{number} of {len(open_)}: {name}: {said}", flush=True)


def claim(work: Path, plan: Plan) -> None:
    """Refuse a folder that holds results of another plan."""
    path = work / "plan.json"
    text = json.dumps(asdict(plan), indent=1, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        sys.exit(f"{path}: holds results of another plan; choose another --work")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_scored(jobs: Iterable[Job], work: Path) -> dict[str, dict[str, dict[int, Scored]]]:
    """Give what was scored: scenario -> model -> seed."""
    found: dict[str, dict[str, dict[int, Scored]]] = {}
    for job in sorted(jobs):
        path = job.table(work, "done")
        if path.exists():
            seeds = found.setdefault(job.scenario, {}).setdefault(job.model, {})
            seeds[job.seed] = _read(path, job.folder(work) / "new" / "truth.json")
    return found


def read_truths(job: Job, work: Path) -> dict[str, float]:
    """Give the means of a training: attention against the niche, what is kept against m."""
    looked = pd.read_csv(job.table(work, "attention"))
    found = {f"attention {k}": float(looked[k].mean()) for k in ("auprc", "auroc")}
    found |= {
        "by chance": float(looked["by_chance"].mean()),
        "share": float(looked["share"].mean()),
    }
    kept = pd.read_csv(job.table(work, "morphology"))
    for what, part in kept.groupby("what"):
        for which in ("first", "second"):
            found[f"{what} {which}"] = float(part[which].mean())
            by_chance = part[f"{which}_high_by_chance"]
            found[f"{what} {which}, high by chance"] = float(by_chance.mean())
    return found


def mean_truths(found: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Give the mean of means, each over a number of seeds."""
    n_seeds = sum(n for n, _ in found)
    return {key: sum(n * means[key] for n, means in found) / n_seeds for key in found[0][1]}


def _read(table: Path, truth_file: Path) -> Scored:
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    slides = {slide["case_id"]: slide for slide in truth["slides"].values()}
    # the best that may be known: that the niche is a focus, and the site where it leans
    keys = ("focus_probability", "site_known_probability", "bayes_probability")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["case_id"] for row in rows} == set(slides)
    best = [next(slides[r["case_id"]][k] for k in keys if k in slides[r["case_id"]]) for r in rows]
    labels = [truth["cases"][row["case_id"]]["recorded_label"] for row in rows]
    score = [float(row["prob_positive"]) for row in rows]
    return Scored(labels=np.array(labels), score=np.array(score), ceiling=np.array(best).round(10))
