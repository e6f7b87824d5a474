"""Does the RNA belong to the patients it stands under? What can be asked, is; it proves nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import case_of
from momkd.data.delimited import CASE_COLUMNS, find_column, read_table
from momkd.data.known_genes import ON_X, ON_Y, defining_genes, spellings
from momkd.types import Case, Expression

_FEMALE = ("f", "female", "woman")
_MALE = ("m", "male", "man")
_FEWEST = 10  # cases a class, or a sex
_LEAST_AUROC = 0.6
_APART = 3.0  # robust SDs between the sexes, below which the genes do not tell
_CLEAR_LOG2 = 2.0


def question_labels(expression: Expression, cases: Sequence[Case], target: str) -> list[str]:
    """Warn where the gene that defines a label hardly differs between its classes (O23).

    Only labels that one gene defines are asked: HER2, PR, ER.
    """
    genes = defining_genes(target)
    values = _values(expression, genes[0]) if len(genes) == 1 else None
    if values is None:
        return []
    labels = {c.case_id: c.label for c in cases if c.has_rna}
    pairs = [
        (v, labels[c]) for c, v in zip(expression.case_ids, values, strict=True) if c in labels
    ]
    known = np.array([p for p in pairs if not np.isnan(p[0])]).reshape(-1, 2)
    positive = known[:, 1] == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < _FEWEST:
        return []
    from scipy.stats import rankdata

    ranks = float(rankdata(known[:, 0])[positive].sum())
    auroc = (ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    if auroc >= _LEAST_AUROC:
        return []
    text = f"RNA: {genes[0]} hardly tells {target} (AUROC {auroc:.2f})"
    return [
        f"{text}: is the RNA of the right patients, and the positive class the right one? [O23]"
    ]


def question_sex(expression: Expression, sexes: Mapping[str, str]) -> list[str]:
    """Warn where genes of the sex chromosomes speak against the stated sex (O23).

    With both sexes stated, the half-way point between them decides; with one, only what is clear
    on a log2 scale. Tumours do lose Y and the silencing by XIST, so this is a question.

    Parameters
    ----------
    sexes
        Case to ``f`` or ``m``.
    """
    on_x = _values(expression, ON_X)
    on_y = [v for v in (_values(expression, g) for g in ON_Y) if v is not None]
    if on_x is None or not on_y:
        return []
    male = np.mean(on_y, axis=0) - on_x
    stated = np.array([sexes.get(c, "") for c in expression.case_ids])
    told = np.isin(stated, ("f", "m")) & ~np.isnan(male)
    is_male = stated == "m"
    counts = [int((told & side).sum()) for side in (is_male, ~is_male)]
    if min(counts) >= _FEWEST:
        cut = _half_way(male[told & ~is_male], male[told & is_male])
        wrong = told & ((male > cut) != is_male) if cut is not None else np.zeros_like(told)
    elif expression.scale == "log2":
        wrong = told & np.where(is_male, male < -_CLEAR_LOG2, male > _CLEAR_LOG2)
    else:
        return []
    if not wrong.any():
        return []
    first = expression.case_ids[int(np.flatnonzero(wrong)[0])]
    text = (
        f"RNA: sex genes speak against the stated sex in {int(wrong.sum())} of {sum(counts)} cases"
    )
    return [f"{text} (first: {first}): rows swapped, or Y or XIST lost in the tumour? [O23]"]


def read_sexes(clinical: Path, case_column: str | None) -> dict[str, str]:
    """Read ``f`` or ``m`` of each case, as far as a clinical table states it.

    A case that is stated both ways has none.
    """
    table = read_table(clinical)
    case = case_column if case_column in table.columns else find_column(table.columns, CASE_COLUMNS)
    column = find_column(table.columns, ("sex", "gender"))
    if case is None or column is None:
        return {}
    found: dict[str, str] = {}
    for text, word in zip(table.column(case), table.column(column), strict=True):
        plain = word.casefold()
        sex = "f" if plain in _FEMALE else "m" if plain in _MALE else ""
        case_id = case_of(text)
        found[case_id] = sex if found.get(case_id, sex) == sex else ""
    return {case_id: sex for case_id, sex in found.items() if sex}


def _values(expression: Expression, symbol: str) -> NDArray[np.float64] | None:
    place = {g: i for i, g in enumerate(expression.genes)}
    name = next((n for n in spellings(symbol) if n in place), None)
    return None if name is None else expression.values[:, place[name]].astype(np.float64)


def _half_way(female: NDArray[np.float64], male: NDArray[np.float64]) -> float | None:
    """Give the point between two groups that lie apart; None where they do not."""
    middle = [float(np.median(g)) for g in (female, male)]
    spread = 1.4826 * max(
        float(np.median(np.abs(g - m))) for g, m in zip((female, male), middle, strict=True)
    )
    if middle[1] - middle[0] <= _APART * spread or middle[1] <= middle[0]:
        return None
    return sum(middle) / 2
