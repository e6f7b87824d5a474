"""Tables 1 and 2: nine methods on the cohort's own folds, and on a cohort they have never seen."""

from momkd.reporting.paper_table import Footnote
from momkd.workflows.evaluate import evaluate_external
from momkd.workflows.prediction_tables import read_prediction_table
from momkd.workflows.reproduction.arms import (
    METHODS,
    MOMKD,
    Arm,
    External,
    Plan,
    base_arm,
    method_arm,
)
from momkd.workflows.reproduction.comparing import TablePlan, TableRow, make_table_of_arms
from momkd.workflows.reproduction.product import Product
from momkd.workflows.reproduction.scores import Scores, read_scores, scores_of_table


def arms_of_methods(plan: Plan) -> list[Arm]:
    """Give the nine methods, MoMKD first: it asks most of a cohort, and is refused first."""
    rest = [method_arm(plan, name) for name in METHODS if name != MOMKD]
    return [base_arm(plan), *rest]


def make_table1(plan: Plan) -> Product:
    """Set the nine methods beside one another, by their out-of-fold predictions."""
    rows = [_row(name, read_scores(plan, method_arm(plan, name))) for name in METHODS]
    table = TablePlan(
        name="table1",
        number="Table 1",
        title="Nine methods, scored on slides alone",
        first={"method": "method"},
        method=MOMKD,
        with_calls=True,
        remarks=[_how(plan)],
    )
    return make_table_of_arms(plan, table, rows)


def make_table2(plan: Plan) -> Product:
    """Score an external cohort by the ensembles of all nine methods.

    Raises
    ------
    ModelError
        P12 other classes, or slides that taught a method.
    """
    assert plan.external is not None
    external = plan.external
    rows = [_row(name, _score_external(plan, method_arm(plan, name), external)) for name in METHODS]
    table = TablePlan(
        name="table2",
        number="Table 2",
        title=f"Nine methods on the external cohort {external.name}",
        first={"method": "method"},
        method=MOMKD,
        with_calls=True,
        remarks=[_how(plan)],
        is_external=True,
    )
    return make_table_of_arms(plan, table, rows)


def _score_external(plan: Plan, arm: Arm, external: External) -> Scores:
    target = evaluate_external(plan.run_of(arm), external.audited, external.name)
    path = target / "predictions.csv"
    return scores_of_table(plan, arm, read_prediction_table(path), path)


def _row(name: str, scores: Scores) -> TableRow:
    return TableRow(key=name, name=METHODS[name], cells={"method": METHODS[name]}, scores=scores)


def _how(plan: Plan) -> Footnote:
    choice = base_arm(plan).choice
    preset = f"preset {choice.preset or 'paper'}"
    own = ", with options of the configuration" if choice.options else ""
    text = (
        f"MoMKD: {preset}{own}. One budget for all methods, epoch, calibration and threshold from "
        "validation; nothing was tuned for any of them here."
    )
    return Footnote(text=text)
