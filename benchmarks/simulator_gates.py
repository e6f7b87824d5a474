"""Hard gates on simulated cases whose ceiling is known: docs/results/simulator-gates.md.

    PYTHONPATH=src python benchmarks/simulator_gates.py --work DIR --workers 14

Every model is trained once a seed, on cases of its own, and scores new ones of the same world from
the slide alone. Finished trainings are not repeated: the same command goes on, and more seeds,
models or scenarios may be asked for in the same folder. `--table-only` writes the page from what is
there. The exit code is 1 where a gate is failed, or something was not run.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core; read when numpy is imported

import numpy as np
import pandas as pd
from gate_runs import (
    BUDGET,
    LEARNABLE,
    OWN,
    Job,
    Plan,
    all_jobs,
    claim,
    mean_truths,
    read_scored,
    read_truths,
    run_all,
)
from gate_verdicts import ALLOWED_SE, Outcome, Verdict, at_chance, judge
from scipy.stats import spearmanr, t

from momkd.models.table import MODELS
from momkd.simulation import SCENARIOS
from momkd.workflows.run_folder import describe_machine

HERE = Path(__file__).resolve().parent
REFERENCE = "abmil"
_DRAWS = 2_000


def score_rows(
    found: Mapping[str, Mapping[int, Outcome]], *, can_be_known: bool
) -> list[dict[str, str]]:
    """Give a row a model: AUROC, distance to the ceiling, headroom over the reference, gain."""
    rows = []
    areas = {m: {s: x.auroc for s, x in seeds.items()} for m, seeds in found.items()}
    best = {s: x.best_auroc for seeds in found.values() for s, x in seeds.items()}
    for model in sorted(found, key=lambda m: -float(np.mean(list(areas[m].values())))):
        mine = areas[model]
        values = np.array(list(mine.values()))
        name = model.partition("+")[0]
        row = {"model": model, "seeds": str(len(values)), "AUROC": f"{values.mean():.3f}"}
        row["SD"] = f"{values.std(ddof=1):.3f}" if len(values) > 1 else ""
        rows.append(row)
        if not can_be_known:
            continue
        chance = at_chance(model, list(found[model].values()))
        row["learnt"] = "yes" if chance.value > ALLOWED_SE * chance.error else "no"
        row["below the ceiling"] = f"{np.mean([best[s] - mine[s] for s in mine]):.3f}"
        row["over ABMIL, seeds of both"] = (
            _paired(mine, areas.get(REFERENCE, {})) if model != REFERENCE else ""
        )
        row["headroom recovered"] = _headroom(mine, areas.get(REFERENCE, {}), best, model)
        row["over its student without RNA"] = (
            _paired(mine, areas.get(f"{name}+no_rna", {})) if model != f"{name}+no_rna" else ""
        )
    return rows


def _paired(mine: Mapping[int, float], other: Mapping[int, float]) -> str:
    """Give the mean difference over seeds with the interval of a paired t."""
    both = sorted(set(mine) & set(other))
    if len(both) < 2:
        return ""
    over = np.array([mine[s] - other[s] for s in both])
    reach = t(len(both) - 1).ppf(0.975) * over.std(ddof=1) / np.sqrt(len(both))
    return f"{over.mean():+.3f} [{over.mean() - reach:+.3f}, {over.mean() + reach:+.3f}]"


def _headroom(
    mine: Mapping[int, float], reference: Mapping[int, float], best: Mapping[int, float], model: str
) -> str:
    """Give (AUROC - reference) / (ceiling - reference) of the means; bootstrap over seeds."""
    both = sorted(set(mine) & set(reference))
    if model == REFERENCE or len(both) < 2:
        return ""
    over = np.array([mine[s] - reference[s] for s in both])
    room = np.array([best[s] - reference[s] for s in both])
    if room.mean() <= 0:
        return "no room"
    drawn = np.random.default_rng(0).integers(len(both), size=(_DRAWS, len(both)))
    low, high = np.quantile(over[drawn].mean(axis=1) / room[drawn].mean(axis=1), [0.025, 0.975])
    return f"{over.mean() / room.mean():.0%} [{low:.0%}, {high:.0%}]"


def gate_rows(verdicts: Sequence[Verdict]) -> list[dict[str, str]]:
    """Give a row a verdict, failures first."""
    return [
        {
            "gate": v.gate,
            "model": v.model,
            "seeds": str(v.n_seeds),
            "value": f"{v.value:+.4f}",
            "3 SE": f"{ALLOWED_SE * v.error:.4f}",
            "": "passed" if v.passed else "**failed**",
        }
        for v in sorted(verdicts, key=lambda v: v.passed)
    ]


def truth_rows(truths: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    """Give a row a model: attention against the niche, what is kept against m; means over seeds."""
    rows = []
    for model, means in sorted(truths.items()):
        row = {"model": model, "attention AUPRC": f"{means['attention auprc']:.3f}"}
        row |= {"by chance": f"{means['by chance']:.3f}", "niche share": f"{means['share']:.3f}"}
        row["attention AUROC"] = f"{means['attention auroc']:.3f}"
        for what in ("slide vector", "memory"):
            cells = [
                f"{means[f'{what} {c}']:.2f} ({means[f'{what} {c}, high by chance']:.2f})"
                for c in ("first", "second")
                if f"{what} {c}" in means
            ]
            row[f"{what} and m"] = ", ".join(cells)
        rows.append(row)
    return rows


def rank_rows(found: Mapping[str, Mapping[int, Outcome]], n_worlds: int) -> list[dict[str, str]]:
    """Give each world's mean AUROC of every model, and how alike the worlds rank them."""
    means = pd.DataFrame(
        {
            f"world {w}": {
                model: np.mean([x.auroc for s, x in seeds.items() if s % n_worlds == w])
                for model, seeds in found.items()
                if any(s % n_worlds == w for s in seeds)
            }
            for w in range(n_worlds)
        }
    ).dropna()
    if n_worlds < 2 or len(means) < 3:
        return []
    ranks = means.rank(ascending=False).astype(int)
    rows = [
        {"model": str(m)} | {str(w): f"{v:.3f} ({ranks.loc[m, w]})" for w, v in row.items()}
        for m, row in means.iterrows()
    ]
    first = means.columns[0]
    alike = {str(w): f"{spearmanr(means[first], means[w])[0]:.2f}" for w in means.columns}
    return [*rows, {"model": f"rank correlation with {first}"} | alike]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Set rows as a Markdown table."""
    if not rows:
        return "(nothing)\n"
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row.get(k, "") for k in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_page(
    path: Path, jobs: Sequence[Job], work: Path, plan: Plan
) -> tuple[list[Verdict], list[Job]]:
    """Write the page; give the verdicts, and what was not run."""
    found = read_scored(jobs, work)
    missing = [job for job in jobs if not job.table(work, "done").exists()]
    facts = describe_machine()
    text = (HERE / "simulator_gates.md").read_text(encoding="utf-8")
    text += (
        f"\n{plan.n_train} cases a seed to learn from, {plan.n_new} new ones, {plan.n_worlds} "
        f"worlds in turn; world: {_told(plan.world)}; budget: common, with "
        f"{' '.join(plan.budget)}. momkd {facts['momkd']}, torch {facts['torch']}, "
        f"{facts['system']}, {facts['date']}.\n"
    )
    if missing:
        names = ", ".join(f"{j.scenario} {j.seed} {j.model}" for j in missing[:10])
        text += f"\n**Not run: {len(missing)} of {len(jobs)} trainings ({names}, ...).**\n"
    verdicts = []
    for scenario, scored in found.items():
        told = judge(scenario, scored)
        verdicts += told
        models = {m: {s: x.outcome() for s, x in seeds.items()} for m, seeds in scored.items()}
        best = [x.best_auroc for x in next(iter(models.values())).values()]
        n_failed = sum(not v.passed for v in told)
        text += f"\n## Scenario `{scenario}`\n\nExact posterior: AUROC {np.mean(best):.3f}. "
        text += f"{len(told)} gates, {n_failed} failed.\n\n{markdown(gate_rows(told))}"
        text += f"\n{markdown(score_rows(models, can_be_known=scenario != 'null'))}"
        if scenario != "null":
            text += "\nWhere they look, and what they keep:\n\n"
            truths = {
                m: mean_truths([(1, read_truths(Job(scenario, s, m), work)) for s in seeds])
                for m, seeds in models.items()
            }
            text += markdown(truth_rows(truths))
        ranks = rank_rows(models, plan.n_worlds)
        text += f"\nBy world (rank):\n\n{markdown(ranks)}" if ranks else ""
    text += "\nThis page: `python benchmarks/simulator_gates.py`.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return verdicts, missing


def _told(world: Mapping[str, object]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in world.items())
    return f"the scenario's, with {said}" if said else "the scenario's own"


def main() -> None:
    """Run, judge, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/gates"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--models", default="all", help="a,b,c; controls come by themselves")
    parser.add_argument("--scenarios", default="default,null")
    parser.add_argument("--train-cases", type=int, default=Plan.n_train)
    parser.add_argument("--new-cases", type=int, default=Plan.n_new)
    parser.add_argument("--worlds", type=int, default=Plan.n_worlds)
    parser.add_argument("--as-is", action="store_true", help="the scenario's own, harder world")
    parser.add_argument("--world-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table-only", action="store_true")
    default = HERE.parent / "docs" / "results" / "simulator-gates.md"
    parser.add_argument("-o", "--output", type=Path, default=default)
    given = parser.parse_args()
    models = list(MODELS) if given.models == "all" else given.models.split(",")
    scenarios = given.scenarios.split(",")
    unknown = [
        *(m for m in models if m not in MODELS),
        *(s for s in scenarios if s not in SCENARIOS),
    ]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join([*MODELS, *SCENARIOS])}")
    plan = Plan(
        n_train=given.train_cases,
        n_new=given.new_cases,
        n_worlds=given.worlds,
        world=({} if given.as_is else LEARNABLE)
        | {k: json.loads(v) for k, _, v in (text.partition("=") for text in given.world_set)},
        budget=(*BUDGET, *given.set),
        arms=OWN,
    )
    claim(given.work, plan)
    jobs = all_jobs(models, scenarios, given.seeds)
    if not given.table_only:
        run_all(jobs, given.work, plan, given.workers)
    verdicts, missing = write_page(given.output, jobs, given.work, plan)
    failed = [v for v in verdicts if not v.passed]
    print(
        f"wrote {given.output}: {len(verdicts)} gates, {len(failed)} failed; {len(missing)} not run"
    )
    for v in failed:
        print(f"failed: {v.gate} {v.model}: {v.value:+.4f}, allowed {ALLOWED_SE * v.error:.4f}")
    sys.exit(1 if failed or missing else 0)


if __name__ == "__main__":
    main()
