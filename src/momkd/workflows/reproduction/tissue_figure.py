"""Figure 4: the slots that carry most of the evidence, on tissue, with their top tiles."""

from collections.abc import Sequence

from momkd.reporting.paper_table import Footnote, PaperTable
from momkd.workflows.atlas.figure import draw_figure4
from momkd.workflows.reproduction.arms import Arm, Plan, base_arm
from momkd.workflows.reproduction.product import Product, label_of, notes_on_label

_SCORES = "figure4-scores"


def arms_of_tissue(plan: Plan) -> list[Arm]:
    """Give the one arm of Figure 4."""
    return [base_arm(plan)]


def make_figure4(plan: Plan) -> Product:
    """Draw the slots of the first training's memory over the slides that it was tested on."""
    run = plan.run_of(base_arm(plan))
    drawn = draw_figure4(run, plan.folder / _SCORES, slides=plan.slides)
    where = {"run": run.relative_to(plan.folder).as_posix(), "scores": _SCORES}
    closely = "" if plan.slides else " Tiles are not seen closely: no --slides were given."
    return Product(
        table=PaperTable(
            name="figure4",
            number="Figure 4",
            title=f"Slots of MoMKD's memory on tissue ({label_of(plan)})",
            caption=f"{drawn.caption}{closely} {plan.budget}",
            headings={
                "class": "class",
                "slot": "slot",
                "share": "share of the evidence",
                "n_tiles": "top tiles",
                "cosine": "cosine of the top tile",
            },
            rows=_rows(drawn.records),
            footnotes=[
                Footnote(
                    text="Slots of two trainings cannot be compared, so one is shown: the first by "
                    "seed and fold, not the best. A slot says what tiles are alike to the model, "
                    "and not why."
                ),
                *(Footnote(text=f"Of the label: {note}") for note in notes_on_label(plan)),
            ],
            warning=plan.profile.warning,
            figure=True,
        ),
        records=[{**row, **where} for row in drawn.records],
        figure=drawn.figure,
    )


def _rows(records: Sequence[dict[str, object]]) -> list[dict[str, str]]:
    tiles: dict[tuple[object, object], list[dict[str, object]]] = {}
    for record in records:
        tiles.setdefault((record["class"], record["slot"]), []).append(record)
    return [
        {
            "class": str(label),
            "slot": str(slot),
            "share": f"{own[0]['share_of_evidence']:.2f}",
            "n_tiles": str(len(own)),
            "cosine": f"{own[0]['cosine']:.2f}",
        }
        for (label, slot), own in tiles.items()
    ]
