"""Tables 3 and 4: MoMKD with parts taken away, and with its memory moved in other ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from momkd.reporting.paper_table import Footnote
from momkd.workflows.reproduction.arms import Arm, Plan, base_arm, momkd_arm
from momkd.workflows.reproduction.comparing import TablePlan, TableRow, make_table_of_arms
from momkd.workflows.reproduction.product import Product
from momkd.workflows.reproduction.scores import read_scores

_FULL = "full"
_NO_SLIDE = {"weights": {"align_wsi": 0.0}}
_NO_RECONSTRUCTION = {"weights": {"reconstruction": 0.0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A row of Table 3: what it is called, which terms are left, and what makes it so."""

    name: str
    arm: str
    slide: bool
    rna: bool
    reconstruction: bool
    options: Mapping[str, Any]

    def cells(self) -> dict[str, str]:
        """Give the row's marks."""
        marks = {
            "rna": self.rna,
            "align_slide": self.slide,
            "align_rna": self.rna,
            "reconstruction": self.reconstruction,
        }
        return {key: "yes" if on else "no" for key, on in marks.items()}


ABLATIONS = {
    "neither": Ablation(
        name="no alignment",
        arm="momkd-no-alignment",
        slide=False,
        rna=False,
        reconstruction=False,
        options=_NO_SLIDE,
    ),
    "slide": Ablation(
        name="slide alignment alone",
        arm="momkd-slide-alignment",
        slide=True,
        rna=False,
        reconstruction=False,
        options={},
    ),
    "rna": Ablation(
        name="RNA alignment alone",
        arm="momkd-rna-alignment",
        slide=False,
        rna=True,
        reconstruction=False,
        options={"weights": {"align_wsi": 0.0, "reconstruction": 0.0}},
    ),
    "rna and reconstruction": Ablation(
        name="RNA alignment and reconstruction",
        arm="momkd-rna-alignment-reconstruction",
        slide=False,
        rna=True,
        reconstruction=True,
        options=_NO_SLIDE,
    ),
    "both": Ablation(
        name="without reconstruction",
        arm="momkd-no-reconstruction",
        slide=True,
        rna=True,
        reconstruction=False,
        options=_NO_RECONSTRUCTION,
    ),
    _FULL: Ablation(
        name="whole", arm="momkd", slide=True, rna=True, reconstruction=True, options={}
    ),
}
"""The rows of Table 3.

Of the eight combinations of two alignments and the reconstruction, two are not rows: without the
RNA alignment nothing of the RNA reaches memory or slide, so the reconstruction would only be felt
where the common gradient is clipped.
Rows without RNA are trained without any (``control: none``), so cases with RNA alone take no step.
"""

MEMORIES = {"fixed": "start, frozen", "learned": "moved by gradients", "ema": "moving average"}
"""``memory_update`` and what it is called in Table 4."""


def arms_of_ablation(plan: Plan) -> list[Arm]:
    """Give the six arms of Table 3, the whole model first."""
    return [base_arm(plan), *(_ablated(plan, a) for k, a in ABLATIONS.items() if k != _FULL)]


def make_table3(plan: Plan) -> Product:
    """Set MoMKD beside itself without its alignments and its reconstruction."""
    rows = [
        TableRow(
            key=key, name=of.name, cells=of.cells(), scores=read_scores(plan, _ablated(plan, of))
        )
        for key, of in ABLATIONS.items()
    ]
    table = TablePlan(
        name="table3",
        number="Table 3",
        title="What MoMKD is without its parts",
        first={
            "rna": "RNA in training",
            "align_slide": "slide alignment",
            "align_rna": "RNA alignment",
            "reconstruction": "reconstruction",
        },
        method=_FULL,
        with_calls=False,
        remarks=[
            Footnote(
                text="Rows are not matched with printed values: our notes of the paper lack the "
                "marks of its Table 3. Without the RNA alignment the reconstruction reaches "
                "neither memory nor slide, so it has no row of its own there."
            )
        ],
    )
    return make_table_of_arms(plan, table, rows)


def arms_of_memories(plan: Plan) -> list[Arm]:
    """Give the three arms of Table 4, the base arm first."""
    arms = [_moved(plan, way) for way in MEMORIES]
    return sorted(arms, key=lambda arm: arm.name != base_arm(plan).name)


def make_table4(plan: Plan) -> Product:
    """Set a fixed memory beside one that gradients move and one that follows an average."""
    rows = [
        TableRow(
            key=way, name=what, cells={"memory": what}, scores=read_scores(plan, _moved(plan, way))
        )
        for way, what in MEMORIES.items()
    ]
    table = TablePlan(
        name="table4",
        number="Table 4",
        title="A fixed memory and a moving one",
        first={"memory": "memory"},
        method="learned",
        with_calls=True,
        remarks=[
            Footnote(
                text="The paper's memory is moved by gradients, as its published code does it; the "
                "moving average is ours, for the text gives no formula of a momentum."
            )
        ],
    )
    return make_table_of_arms(plan, table, rows)


def _ablated(plan: Plan, of: Ablation) -> Arm:
    return momkd_arm(plan, of.arm, of.options, control=None if of.rna else "none")


def _moved(plan: Plan, way: str) -> Arm:
    return momkd_arm(plan, f"momkd-memory-{way}", {"memory_update": way})
