"""Arms beside one another as rows of a table: figures, tests against one of them, and sources."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from momkd.evaluation.claims import format_p, state_claims
from momkd.evaluation.comparison import Comparison, Pair
from momkd.reporting.paper_table import Footnote, PaperTable
from momkd.workflows.reproduction.arms import Plan
from momkd.workflows.reproduction.product import Product, label_of, notes_on_label
from momkd.workflows.reproduction.published import (
    PublishedFigure,
    footnotes_of,
    published_figures,
)
from momkd.workflows.reproduction.scores import (
    Measure,
    Scores,
    compare_scores,
    measure,
    percent,
    record,
    require_alike,
)

_ABOUT = {
    "accuracy": "At each fold's threshold, chosen on its validation side; read it beside majority.",
    "majority": "Accuracy of calling every case the more frequent class.",
    "difference": "In points.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row: its key, its name in sentences, its first cells, and the scores behind it."""

    key: str
    name: str
    cells: Mapping[str, str]
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlan:
    """How rows become a table.

    Parameters
    ----------
    name, number, title
        File stem, what the paper calls it, and what it is.
    first
        Headings of the columns before the figures.
    method
        Key of the row that is tested against the others.
    with_calls
        Whether accuracy, majority rate and macro F1 are printed too.
    is_external
        The scores are of one ensemble on an external cohort: intervals, no SD.
    remarks
        Further remarks below the table.
    """

    name: str
    number: str
    title: str
    first: Mapping[str, str]
    method: str
    with_calls: bool
    is_external: bool = False
    remarks: Sequence[Footnote] = ()


def make_table_of_arms(plan: Plan, table: TablePlan, rows: Sequence[TableRow]) -> Product:
    """Score the rows, test one against the others, and set the table.

    Raises
    ------
    DataError
        M01, M02 the arms were not tested on the same cases in the same folds.
    """
    require_alike([row.scores for row in rows])
    (named,) = [row for row in rows if row.key == table.method]
    of = compare_scores({row.name: row.scores for row in rows}, named.name)
    pairs = {pair.other: pair for pair in of.pairs}
    printed, records = [], []
    label = label_of(plan)
    known = published_figures(table.name, label)
    for row in rows:
        figures = measure(row.scores.folds)
        pair = pairs.get(row.name)
        cells = {**row.cells, **_figures(table, figures), **_test(pair)}
        cells["published"] = known[row.key].text() if row.key in known else ""
        printed.append(cells | {"run": row.scores.source["run"]})
        tested = {} if pair is None else _tested(of, pair)
        records.append(
            {"row": row.key, **row.cells, **record(row.scores, figures), **tested}
            | (_published(known.get(row.key)) if known else {})
        )
    claims = state_claims(of)
    caption = f"{of.n_cases} cases, {of.n_positive} positive. {plan.budget}"
    return Product(
        table=PaperTable(
            name=table.name,
            number=table.number,
            title=f"{table.title} ({label})",
            caption=caption,
            headings=_headings(table, named, with_published=bool(known)),
            rows=printed,
            footnotes=_footnotes(plan, table, of, named),
            warning=plan.profile.warning,
            page_only=("run",),
            paragraphs={
                "What may be claimed": claims.may,
                "What may not": claims.may_not,
                "Where the figures come from": [_place(row) for row in rows],
            },
        ),
        records=records,
        facts={"comparison": asdict(of), "may_claim": claims.may, "may_not_claim": claims.may_not},
    )


def _figures(table: TablePlan, figures: Mapping[str, Measure]) -> dict[str, str]:
    def show(name: str) -> str:
        found = figures[name]
        return found.with_interval() if table.is_external else found.with_sd()

    auroc = figures["auroc"]
    if table.is_external:
        cells = {"auroc": auroc.with_interval()}
    else:
        cells = {"auroc": auroc.with_sd(), "interval": auroc.interval()}
    if table.with_calls:
        cells |= {"accuracy": show("accuracy"), "macro_f1": show("macro_f1")}
        cells["majority"] = percent(figures["majority_rate"].value)
    return cells


def _headings(table: TablePlan, named: TableRow, *, with_published: bool) -> dict[str, str]:
    heads = {**table.first, "auroc": "AUROC [95 %]" if table.is_external else "AUROC"}
    if not table.is_external:
        heads["interval"] = "95 %, cases"
    if table.with_calls:
        heads |= {"accuracy": "accuracy", "majority": "majority", "macro_f1": "macro F1"}
    heads |= {"difference": f"{named.name} minus it [95 %]", "p": "Holm p"}
    if with_published:
        heads["published"] = "published AUROC"
    return heads | {"run": "run"}


def _test(pair: Pair | None) -> dict[str, str]:
    if pair is None:  # the row that the others are tested against
        return {"difference": "", "p": ""}
    found = pair.verdict
    if found.low != found.low:  # not defined: NaN is no equal of itself
        return {"difference": f"{100 * found.value:+.1f}", "p": "n/a"}
    bounds = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return {"difference": f"{100 * found.value:+.1f} {bounds}", "p": format_p(pair.p_holm)}


def _tested(of: Comparison, pair: Pair) -> dict[str, Any]:
    return {
        "against": of.method,
        "difference": pair.verdict.value,
        "difference_low": pair.verdict.low,
        "difference_high": pair.verdict.high,
        "p": pair.verdict.p,
        "p_holm": pair.p_holm,
        "test": of.test,
    }


def _published(figure: PublishedFigure | None) -> dict[str, Any]:
    """Give the printed AUROC as a share, as all of the CSV is."""
    names = ("published_auroc", "published_auroc_sd", "published_how")
    if figure is None:
        return dict.fromkeys(names)
    spread = None if figure.sd is None else round(figure.sd / 100, 4)
    return dict(zip(names, (round(figure.auroc / 100, 4), spread, figure.how), strict=True))


def _footnotes(plan: Plan, table: TablePlan, of: Comparison, named: TableRow) -> list[Footnote]:
    about = dict(_ABOUT)
    about["difference"] = (
        f"In points, with the interval of the test ({of.test}), which is not adjusted for the "
        f"number of comparisons ({len(of.pairs)}); Holm p is."
    )
    if table.is_external:
        general = (
            "All figures in percent. One ensemble of all fold models, their scores averaged: one "
            "interval (95 %, over cases, bootstrap), no SD over models. Thresholds as chosen on "
            "the validation sides, not fitted again."
        )
    else:
        n_fits = len(named.scores.folds)
        general = (
            f"All figures in percent. Mean ± SD over {n_fits} trainings, as papers print it: the "
            "SD is no interval. 95 %, cases: how the mean AUROC moves with other cases to test on "
            "(bootstrap over cases)."
        )
    marked = [Footnote(text=text, column=key) for key, text in about.items()]
    label = [Footnote(text=f"Of the label: {note}") for note in notes_on_label(plan)]
    told = [*marked, *footnotes_of(table.name, label_of(plan)), Footnote(text=general)]
    headings = _headings(table, named, with_published=True)
    shown = [note for note in told if not note.column or note.column in headings]
    return [*shown, *table.remarks, *label]


def _place(row: TableRow) -> str:
    source = row.scores.source
    digest = source["predictions_sha256"][:16]
    return f"{row.name}: {source['predictions']}, model {source['model']}, SHA-256 {digest}"
