"""How much of the room between ABMIL and the exact ceiling does RNA win? docs/results/headroom.md.

    PYTHONPATH=src python benchmarks/headroom.py --work DIR --workers 14

Arms are models with their settings, controls among them. Each is trained once a seed on cases of
its own, and scores new ones of the same world from the slide alone. Finished trainings are not
repeated: the same command goes on, and more seeds, arms or scenarios may be asked for in the same
folder. What the page needs of each is added to `benchmarks/results/headroom.jsonl`, which outlives
the work folder: `--table-only` writes the page from that file and from what is there.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core; read when numpy is imported

import numpy as np
from gate_runs import LIGHT_MKD, NARROW_TRANSMIL, Job, Plan, claim, run_all
from gate_verdicts import Outcome
from headroom_record import Record, missing
from scipy.stats import t
from simulator_gates import markdown, score_rows, truth_rows

from momkd.evaluation.corrected_tests import holm
from momkd.reporting.figures import svg_of
from momkd.simulation import SCENARIOS
from momkd.workflows.run_folder import describe_machine

HERE = Path(__file__).resolve().parent
BUDGET = (
    *("folds.val_fraction=0.2", "fit.lr=1e-3", "fit.schedule=cosine"),
    *("fit.epochs=50", "fit.patience=15"),
)
_SMALL = ("model.dim=64", "model.dropout=0.25")
_MOMKD = ("model.name=momkd", *_SMALL, "model.dropout_attention=0", "model.dim_shared=32")
_PLUS = (*_MOMKD, "model.preset=plus", "model.dim_gate=32")
ARMS: dict[str, tuple[str, ...]] = {
    "mean_logistic": ("model.name=mean_logistic",),
    "abmil": ("model.name=abmil", "model.dim=64", "model.dim_attention=32"),
    "dsmil": ("model.name=dsmil",),
    "transmil": NARROW_TRANSMIL,
    "dtfd_mil": ("model.name=dtfd_mil",),
    "wikg": ("model.name=wikg", "model.dim=64", "model.dropout=0"),
    "tdc": ("model.name=tdc",),
    "mkd": LIGHT_MKD,
    "g_hanet": (
        *("model.name=g_hanet", "model.dim=128", "model.dim_hidden=256"),
        *("model.dim_attention=64", "model.dim_token=64"),
    ),
    "momkd": _MOMKD,
    "momkd code": (*_MOMKD, "model.preset=code", "model.dim=64", "model.dim_rna=64"),
    "momkd ema": (*_MOMKD, "model.memory_update=ema"),
    "momkd fixed": (*_MOMKD, "model.memory_update=fixed"),
    "plus": _PLUS,
    "plus graph": (*_PLUS, "model.encoder=graph"),
    "plus labels": (*_PLUS, "model.weights.ce=1", "model.weights.odds=0"),
    "plus softened": (*_PLUS, "model.weights.programmes=0"),
    "plus+no_rna": (*_PLUS, "model.control=none"),
    "plus+shuffled": (*_PLUS, "model.control=shuffled_within_class"),
    "plus+label": (*_PLUS, "model.control=label"),
}
PRE_NAMED = "plus"
MEMORIES = ("momkd code", "momkd ema", "momkd fixed")
BASELINES = ("abmil", "dsmil", "transmil", "dtfd_mil", "wikg", "tdc", "mkd", "g_hanet")


def against(
    found: Mapping[str, Mapping[int, Outcome]], arm: str, others: Sequence[str]
) -> list[dict[str, str]]:
    """Give a row another arm: what ``arm`` scores above it, paired t over seeds, Holm."""
    mine = {s: x.auroc for s, x in found.get(arm, {}).items()}
    rows, p_values = [], []
    for name in others:
        other = {s: x.auroc for s, x in found.get(name, {}).items()}
        both = sorted(set(mine) & set(other))
        if len(both) < 2:
            continue
        over = np.array([mine[s] - other[s] for s in both])
        law, error = t(len(both) - 1), float(over.std(ddof=1)) / len(both) ** 0.5
        reach = float(law.ppf(1 - 0.05 / 2 / len(others))) * error
        p_values.append(2 * float(law.sf(abs(over.mean()) / error)))
        low, high = over.mean() - reach, over.mean() + reach
        rows.append(
            {
                "arm": name,
                "seeds": str(len(both)),
                f"{arm} above it": f"{over.mean():+.3f}",
                f"95 % for all {len(others)}": f"[{low:+.3f}, {high:+.3f}]",
                "seeds above": f"{int((over > 0).sum())} of {len(both)}",
            }
        )
    # an arm that was not run yet counts as a comparison that showed nothing
    open_ = [1.0] * (len(others) - len(p_values))
    for row, p in zip(rows, holm([*p_values, *open_]), strict=False):
        row["p, Holm"] = f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
    return rows


def draw(path: Path, found: Mapping[str, Mapping[str, Mapping[int, Outcome]]]) -> None:
    """Draw every seed's distance to its ceiling, an arm a line, a scenario a panel."""
    from matplotlib.figure import Figure

    shown = {s: arms for s, arms in found.items() if s != "null"}
    arms = [name for name in ARMS if any(name in one for one in shown.values())]
    figure = Figure(figsize=(2.2 + 3 * len(shown), 0.8 + 0.24 * len(arms)), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, (scenario, models) in zip(axes, shown.items(), strict=True):
        for row, name in enumerate(arms):
            below = [x.auroc - x.best_auroc for x in models.get(name, {}).values()]
            ax.plot(below, [row] * len(below), "o", ms=3, color="#0072b2", alpha=0.5)
            if below:
                ax.plot(np.mean(below), row, "|", ms=11, mew=2, color="black")
        ax.axvline(0, color="grey", lw=0.8)
        ax.set(title=scenario, xlabel="AUROC below the exact ceiling")
        ax.set_yticks(range(len(arms)), arms)
        ax.locator_params(axis="x", nbins=5)
    axes[0].invert_yaxis()
    path.write_text(svg_of(figure), encoding="utf-8")


def write_page(path: Path, record: Record, wanted: Sequence[Job], plan: Plan) -> int:
    """Write the page and its figure; give how many trainings are missing of those wanted."""
    found = record.outcomes()
    not_run = missing(found, wanted)
    facts = describe_machine()
    text = (HERE / "headroom.md").read_text(encoding="utf-8")
    text += (
        f"\n{plan.n_train} cases a seed to learn from, {plan.n_new} new ones, {plan.n_worlds} "
        f"worlds in turn. Budget: common, with {' '.join(plan.budget)}. momkd {facts['momkd']}, "
        f"torch {facts['torch']}, {facts['system']}, {facts['date']}.\n\n"
        f"![Distance of every arm to the ceiling]({path.stem}.svg)\n"
    )
    if not_run:
        text += f"\n**Not run: {len(not_run)} of {len(wanted)} trainings.**\n"
    for scenario, models in found.items():
        best = [x.best_auroc for x in next(iter(models.values())).values()]
        text += f"\n## Scenario `{scenario}`\n\nExact posterior: AUROC {np.mean(best):.3f}.\n\n"
        text += markdown(score_rows(models, can_be_known=scenario != "null"))
        if rows := against(models, PRE_NAMED, BASELINES):
            text += f"\nThe pre-named arm against the eight baselines:\n\n{markdown(rows)}"
        if rows := against(models, "momkd", MEMORIES):
            text += (
                f"\nThe paper's preset against the code's, and other memories:\n\n{markdown(rows)}"
            )
        if scenario != "null":
            truths = markdown(truth_rows(record.truths(scenario)))
            text += f"\nWhere they look, and what they keep:\n\n{truths}"
    text += "\n## Settings of the arms\n\n"
    text += markdown([{"arm": name, "settings": " ".join(s)} for name, s in ARMS.items()])
    text += "\nThis page: `python benchmarks/headroom.py`.\n"
    path.write_text(text, encoding="utf-8")
    draw(path.with_suffix(".svg"), found)
    return len(not_run)


def main() -> None:
    """Run what is not done, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/headroom"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="to share work between machines")
    parser.add_argument("--arms", default=",".join(ARMS), help="names, with commas between")
    parser.add_argument("--scenarios", default="default,foci,null,rna-only")
    parser.add_argument("--table-only", action="store_true")
    kept = HERE / "results" / "headroom.jsonl"
    parser.add_argument("--record", type=Path, default=kept, help="another file begins anew")
    default = HERE.parent / "docs" / "results" / "headroom.md"
    parser.add_argument("-o", "--output", type=Path, default=default)
    given = parser.parse_args()
    arms, scenarios = given.arms.split(","), given.scenarios.split(",")
    unknown = [*(a for a in arms if a not in ARMS), *(s for s in scenarios if s not in SCENARIOS)]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join([*ARMS, *SCENARIOS])}")
    plan = Plan(n_train=1000, n_worlds=2, world={}, budget=BUDGET, arms=ARMS)
    record = Record.load(given.record, plan)
    claim(given.work, plan)
    wanted = [
        Job(s, seed, a)
        for seed in range(given.first_seed, given.seeds)
        for s in scenarios
        for a in arms
    ]
    if not given.table_only:
        run_all(wanted, given.work, plan, given.workers)
    everything = [Job(s, seed, a) for s in SCENARIOS for seed in range(50) for a in ARMS]
    for line in record.add(everything, given.work):
        print(line)
    record.save(given.record)
    n_missing = write_page(given.output, record, wanted, plan)
    print(f"wrote {given.output}; {n_missing} not run")
    sys.exit(1 if n_missing else 0)


if __name__ == "__main__":
    main()
