"""Figures 3 and S1: how much of the memory is used by epoch, and what its size does."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from momkd.reporting.paper_figures import Panel, Traces, draw_by_epoch, draw_by_size
from momkd.reporting.paper_table import Footnote, PaperTable
from momkd.workflows.report_training import Fit, read_trainings
from momkd.workflows.reproduction.arms import Arm, Plan, base_arm, momkd_arm
from momkd.workflows.reproduction.comparing import TablePlan, TableRow, make_table_of_arms
from momkd.workflows.reproduction.product import Product, label_of, notes_on_label
from momkd.workflows.reproduction.scores import measure, read_scores
from momkd.workflows.run_folder import read_run

_SHOWN = {"active_ratio": "share of slots in use", "perplexity": "perplexity"}


def arms_of_usage(plan: Plan) -> list[Arm]:
    """Give the one arm of Figure 3."""
    return [base_arm(plan)]


def make_figure3(plan: Plan) -> Product:
    """Draw active ratio and perplexity of each class's slots by epoch."""
    fits = _fits(plan, base_arm(plan))
    classes = plan.settings.data.target.class_names
    n_slots = int(base_arm(plan).choice.resolved()["n_slots"])
    tops = {"active_ratio": 1.05, "perplexity": n_slots * 1.05}
    panels = [
        Panel(
            label=label,
            traces=[_traces(fits, key, place, name) for place, name in enumerate(classes)],
            top=tops[key],
        )
        for key, label in _SHOWN.items()
    ]
    return Product(
        table=PaperTable(
            name="figure3",
            number="Figure 3",
            title=f"Use of MoMKD's memory ({label_of(plan)})",
            caption=f"{n_slots} slots a class; line: median over {len(fits)} trainings, shade: "
            f"from the least to the greatest. {plan.budget}",
            headings={"class": "class"}
            | {
                f"{key}_{when}": f"{label}, {when}"
                for key, label in _SHOWN.items()
                for when in _WHEN
            },
            rows=[_row(fits, place, name) for place, name in enumerate(classes)],
            footnotes=[
                Footnote(
                    text="A slot is in use with at least a tenth of an even share of what is "
                    "assigned to its class in the epoch; perplexity is how many slots would be "
                    "used if all were used evenly. Median (least to greatest) over trainings; they "
                    "end at different epochs. Both fall and rise in sound trainings too: they "
                    "describe the memory and are no measure of quality."
                ),
                *(Footnote(text=f"Of the label: {note}") for note in notes_on_label(plan)),
            ],
            warning=plan.profile.warning,
            paragraphs={"Where the figures come from": [_history(plan, fit) for fit in fits]},
            figure=True,
        ),
        records=[row for fit in fits for row in _records(plan, fit, classes)],
        figure=draw_by_epoch(panels, foot=_foot(plan)),
    )


def arms_of_sizes(plan: Plan) -> list[Arm]:
    """Give the arms of Figure S1, the base arm first."""
    arms = [_sized(plan, size) for size in _sizes(plan)]
    return sorted(arms, key=lambda arm: arm.name != base_arm(plan).name)


def make_figures1(plan: Plan) -> Product:
    """Draw AUROC over the number of slots a class, with intervals over cases."""
    sizes = _sizes(plan)
    rows = [
        TableRow(
            key=str(size),
            name=f"{size} slots",
            cells={"slots": str(size)},
            scores=read_scores(plan, _sized(plan, size)),
        )
        for size in sizes
    ]
    table = TablePlan(
        name="figures1",
        number="Figure S1",
        title="Size of MoMKD's memory",
        first={"slots": "slots a class"},
        method=str(_own_size(plan)),
        with_calls=False,
        remarks=[
            Footnote(
                text="A size chosen by these figures was chosen on test cases: it needs new ones. "
                "The paper's text does not say which size its tables have; ours have "
                f"{_own_size(plan)}."
            )
        ],
    )
    product = make_table_of_arms(plan, table, rows)
    areas = [measure(row.scores.folds)["auroc"] for row in rows]
    figure = draw_by_size(
        sizes,
        [area.value for area in areas],
        [area.low for area in areas],
        [area.high for area in areas],
        labels=("slots a class", "AUROC, 95 % over cases"),
        foot=_foot(plan),
    )
    return replace(product, table=replace(product.table, figure=True), figure=figure)


_WHEN = ("first epoch", "epoch kept", "last epoch")


def _fits(plan: Plan, arm: Arm) -> list[Fit]:
    """Read the trainings of an arm, of the seeds that were asked for."""
    folder = plan.run_of(arm)
    first = plan.settings.folds.seed
    wanted = {f"seed-{seed}" for seed in range(first, first + plan.seeds)}
    given = plan.settings.folds.file is not None
    jobs = read_run(folder)["jobs"]
    jobs = [job for job in jobs if job.split("/")[0] == arm.choice.label]
    jobs = [job for job in jobs if given or job.split("/")[1] in wanted]
    return [fit for fit in read_trainings(folder, jobs).fits if fit.history.get("epoch")]


def _traces(fits: Sequence[Fit], key: str, place: int, name: str) -> Traces:
    return Traces(
        name=name,
        epochs=[fit.history["epoch"] for fit in fits],
        values=[fit.history[f"{key}_{place}"] for fit in fits],
    )


def _row(fits: Sequence[Fit], place: int, name: str) -> dict[str, str]:
    row = {"class": name}
    for key in _SHOWN:
        for when in _WHEN:
            values = [_at(fit, f"{key}_{place}", when) for fit in fits]
            row[f"{key}_{when}"] = _median([v for v in values if math.isfinite(v)])
    return row


def _at(fit: Fit, key: str, when: str) -> float:
    values = fit.history[key]
    if when == "first epoch":
        return values[0]
    if when == "last epoch":
        return values[-1]
    kept = [v for e, v in zip(fit.history["epoch"], values, strict=True) if e == fit.best_epoch]
    return kept[0] if kept else math.nan


def _median(values: Sequence[float]) -> str:
    if not values:
        return "n/a"
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _records(plan: Plan, fit: Fit, classes: Sequence[str]) -> Iterator[dict[str, object]]:
    _, seed, fold = fit.name.split("/")
    for place, name in enumerate(classes):
        for at, epoch in enumerate(fit.history["epoch"]):
            yield {
                "history": _history(plan, fit),
                "seed": int(seed.removeprefix("seed-")),
                "fold": int(fold.removeprefix("fold-")),
                "class": name,
                "epoch": int(epoch),
                "kept": epoch == fit.best_epoch,
                **{key: fit.history[f"{key}_{place}"][at] for key in _SHOWN},
            }


def _history(plan: Plan, fit: Fit) -> str:
    run = plan.run_of(base_arm(plan)).relative_to(plan.folder)
    return (run / fit.name / "history.csv").as_posix()


def _own_size(plan: Plan) -> int:
    return int(base_arm(plan).choice.resolved()["n_slots"])


def _sizes(plan: Plan) -> list[int]:
    return sorted({*plan.profile.sizes, _own_size(plan)})


def _sized(plan: Plan, size: int) -> Arm:
    return momkd_arm(plan, f"momkd-slots-{size}", {"n_slots": size})


def _foot(plan: Plan) -> str:
    trial = ", a trial of the road" if plan.profile.warning else ""
    return f"profile {plan.profile.name}{trial}; {label_of(plan)}"
