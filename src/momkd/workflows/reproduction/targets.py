"""The table of targets: what can be made again, which arms it needs, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass

from momkd.workflows.reproduction.arms import Arm, Plan
from momkd.workflows.reproduction.memory_figures import (
    arms_of_sizes,
    arms_of_usage,
    make_figure3,
    make_figures1,
)
from momkd.workflows.reproduction.memory_tables import (
    arms_of_ablation,
    arms_of_memories,
    make_table3,
    make_table4,
)
from momkd.workflows.reproduction.method_tables import (
    arms_of_methods,
    make_table1,
    make_table2,
)
from momkd.workflows.reproduction.product import Product
from momkd.workflows.reproduction.tissue_figure import arms_of_tissue, make_figure4


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table or figure of the paper.

    Parameters
    ----------
    title
        What it shows, for lists of targets.
    arms
        The cross-validations it needs; arms of one name are one.
    make
        Makes it, when they are done.
    needs_external
        Whether it needs a cohort that the models have never seen.
    """

    title: str
    arms: Callable[[Plan], list[Arm]]
    make: Callable[[Plan], Product]
    needs_external: bool = False


TARGETS: dict[str, Target] = {
    "table1": Target(
        title="nine methods by cross-validation", arms=arms_of_methods, make=make_table1
    ),
    "table2": Target(
        title="nine methods on an external cohort",
        arms=arms_of_methods,
        make=make_table2,
        needs_external=True,
    ),
    "table3": Target(title="MoMKD without its parts", arms=arms_of_ablation, make=make_table3),
    "table4": Target(
        title="a fixed memory and a moving one", arms=arms_of_memories, make=make_table4
    ),
    "figure3": Target(title="use of the memory by epoch", arms=arms_of_usage, make=make_figure3),
    "figure4": Target(
        title="slots of the memory on tissue", arms=arms_of_tissue, make=make_figure4
    ),
    "figures1": Target(title="AUROC by size of the memory", arms=arms_of_sizes, make=make_figures1),
}
