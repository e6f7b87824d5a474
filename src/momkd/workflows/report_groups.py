"""The part of a report about groups of patients: by site, and by what was named beforehand."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from momkd.data.site_folds import MIN_OF_A_CLASS
from momkd.evaluation.delong import delong_folds
from momkd.reporting.page import Bounded, Part, Row, Section, Table, Words
from momkd.workflows.scored_cases import scores_of

MIN_OF_A_GROUP = 20
_UNKNOWN = "(unknown)"
_CAPTION = (
    f"with {MIN_OF_A_GROUP} tested cases and {MIN_OF_A_CLASS} of each class; cases from all folds "
    "together, mean over repeats, DeLong 95 % interval, each case counted once"
)


def sites_section(cases: pd.DataFrame, site_of: Mapping[str, str]) -> Section | None:
    """Score the tested cases of each site that is large enough; None where sites are unknown."""
    rows = site_rows(cases, site_of)
    if not rows:
        return None
    return Section(
        title="Sites",
        parts=[
            Table(
                caption=f"AUROC by site: sites {_CAPTION}",
                rows=rows,
            ),
            Words(
                lines=[
                    "Figures of single sites rest on few cases. Differences between them were not "
                    "tested; no site may be picked out afterwards."
                ]
            ),
        ],
    )


def site_rows(cases: pd.DataFrame, site_of: Mapping[str, str]) -> list[Row]:
    """Give a row a large site, and one of the others together; none where sites are unknown."""
    if not any(site_of.get(case) for case in cases["case_id"]):
        return []
    return _rows("site", cases, site_of, "smaller sites together")


def subgroups_section(
    cases: pd.DataFrame, cohort: pd.DataFrame, covariates: Path
) -> Section | None:
    """Score tested cases with and without RNA, and by each covariate that was named.

    A covariate whose every known value is a number is cut at the median of the tested cases. None
    where nothing parts the cases.

    Parameters
    ----------
    cohort
        ``cohort.csv``.
    covariates
        ``covariates.csv`` of the run (``data.covariates``), which need not be there.
    """
    with_rna = cohort.groupby("case_id")["rna_id"].agg(lambda ids: any(ids))
    ways: dict[str, Mapping[str, str]] = {
        "RNA profile": {str(c): "with RNA" if has else "without RNA" for c, has in with_rna.items()}
    }
    if covariates.is_file():
        stated = pd.read_csv(covariates, dtype=str, keep_default_na=False)
        tested = set(cases["case_id"])
        for name in stated.columns[1:]:
            of_case = dict(zip(stated["case_id"], stated[name], strict=True))
            ways[str(name)] = _named({c: v for c, v in of_case.items() if c in tested})
    parts: list[Part] = []
    for name, group_of in ways.items():
        if len({group_of.get(case, "") for case in cases["case_id"]}) > 1:
            rows = _rows(name, cases, group_of, "smaller groups together")
            parts.append(Table(caption=f"AUROC by {name}: groups {_CAPTION}", rows=rows))
    if not parts:
        return None
    parts.append(
        Words(
            lines=[
                "Groups are those of data.covariates, named before training, and whether a case "
                "has RNA. Differences between groups were not tested; no group may be picked out "
                "afterwards."
            ]
        )
    )
    return Section(title="Subgroups", parts=parts)


def _named(of_case: Mapping[str, str]) -> dict[str, str]:
    """Name the group of each case: the value itself, or a side of the median of numbers."""
    known = [value for value in of_case.values() if value]
    numbers = [_number(value) for value in known]
    if len(set(known)) < 3 or not all(map(math.isfinite, numbers)):
        return dict(of_case)
    middle = float(np.median(numbers))
    return {
        case: value and (f"up to {middle:g}" if _number(value) <= middle else f"above {middle:g}")
        for case, value in of_case.items()
    }


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _rows(word: str, cases: pd.DataFrame, group_of: Mapping[str, str], rest_name: str) -> list[Row]:
    known = cases.assign(group=cases["case_id"].map(group_of).fillna("").replace("", _UNKNOWN))
    each = known.drop_duplicates("case_id").groupby("group")["y_true"].agg(["size", "sum"])
    fewest = np.minimum(each["sum"], each["size"] - each["sum"])
    is_large = (each["size"] >= MIN_OF_A_GROUP) & (fewest >= MIN_OF_A_CLASS)
    sizes = dict(zip(each.index.astype(str), each["size"].tolist(), strict=True))
    large = sorted(each.index[is_large].astype(str), key=lambda s: (-sizes[s], s))
    groups = {name: known[known["group"] == name] for name in large}
    rest = known[~known["group"].isin(large)]
    if len(rest):
        groups[f"{len(each) - len(large)} {rest_name}"] = rest
    return [_row(word, name, part) for name, part in groups.items()]


def _row(word: str, name: str, part: pd.DataFrame) -> Row:
    one = part.drop_duplicates("case_id")
    row: dict[str, Any] = {
        word: name,
        "cases": len(one),
        "positive cases": int(one["y_true"].sum()),
    }
    return row | _areas(part)


def _areas(part: pd.DataFrame) -> dict[str, Bounded]:
    found = {}
    for model, of_model in part.groupby("model", sort=False):
        pooled: Sequence[Any] = [scores_of(p) for _, p in of_model.groupby("seed", sort=True)]
        area = delong_folds(pooled)
        found[str(model)] = Bounded(
            value=area.value, low=area.low, high=area.high, why=area.why_undefined
        )
    return found
