"""The genes of a fold and their scale, learnt from its training cases and from nobody else.

Published practice chooses genes and scales them once, on most of the cohort, test cases and their
labels included. Here both are fitted anew in every fold, and a panel remembers whom it has seen.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from pydantic import Field

from momkd.config import Options
from momkd.data.rna.gene_names import is_ensembl
from momkd.errors import ConfigError, DataError, IntegrityError, MomkdError
from momkd.storage import canonical_json, digest_bytes
from momkd.types import Case, Expression

Selector = Literal["anova", "mutual_information", "variance", "xgboost", "all"]

# below this share of a gene's own size, spread is rounding of float32 and nothing else
_ROUNDING = 1e-6
_PLAIN = ("selector", "n_asked", "dropped_genes", "n_imputed")
_ARRAYS = ("low", "high", "centre", "scale", "median")


class PanelOptions(Options):
    """How genes are chosen and scaled.

    Parameters
    ----------
    selector
        What ranks the genes: ``anova`` F, ``mutual_information`` with the label, ``variance``,
        ``xgboost`` importance (100 trees of depth 3, as published; an extra), or ``all``, which
        keeps every gene that varies.
    n_genes
        Genes asked for; fewer where fewer have a score above zero.
    winsor
        Share at either end pulled in to its quantile before anything else.
    """

    selector: Selector = "anova"
    n_genes: int = Field(768, ge=1)
    winsor: float = Field(0.01, ge=0, lt=0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """What turns a raw value of a gene into z = (clip(value, low, high) - centre) / scale.

    A value that is missing takes the median of the training cases first.

    Parameters
    ----------
    genes
        In order of rank, best first; equal scores (and all genes of ``all``) by name.
    low, high
        Winsor limits, in units of the table.
    centre, scale
        Mean and SD of the winsorised training values.
    median
        Of the training values that are there.
    n_imputed
        Values of the chosen genes that were missing among the training cases.
    selector, n_asked
        How the genes were chosen, and how many were wanted (of ``all``: those that vary).
    dropped_genes
        Genes that do not vary among the training cases, with the reason.
    fitted_on
        Short SHA-256 of the id of each case it was fitted on.

    Raises
    ------
    ValueError
        A scale that is not positive.
    """

    genes: tuple[str, ...]
    low: Float32[np.ndarray, " n_genes"]
    high: Float32[np.ndarray, " n_genes"]
    centre: Float32[np.ndarray, " n_genes"]
    scale: Float32[np.ndarray, " n_genes"]
    median: Float32[np.ndarray, " n_genes"]
    selector: str
    n_asked: int
    dropped_genes: dict[str, str]
    fitted_on: tuple[str, ...]
    n_imputed: int = 0

    def __post_init__(self) -> None:
        if not bool((self.scale > 0).all()):
            raise ValueError("panel: scales are > 0")

    @property
    def notes(self) -> list[str]:
        """Say what a reader should know: fewer genes than asked, genes that do not vary."""
        found = []
        if len(self.genes) < self.n_asked:
            found.append(
                f"panel: {len(self.genes)} genes are used where {self.n_asked} were asked for; no "
                f"other varies among the training cases with a score above zero ({self.selector})"
            )
        if self.dropped_genes:
            first = min(self.dropped_genes)
            found.append(
                f"panel: {len(self.dropped_genes)} genes do not vary among the training cases "
                f"and are dropped (first: {first})"
            )
        if self.n_imputed:
            found.append(
                f"panel: {self.n_imputed} missing values of the chosen genes took the median of "
                "the training cases"
            )
        return found

    def absent_genes(self, expression: Expression) -> tuple[str, ...]:
        """Give the genes of the panel that a table lacks, in order of rank."""
        there = set(expression.genes)
        return tuple(g for g in self.genes if g not in there)

    def transform(
        self,
        expression: Expression,
        case_ids: Sequence[str],
        *,
        absent: Literal["refuse", "train_mean"] = "refuse",
    ) -> Float32[np.ndarray, "n_cases n_genes"]:
        """Give the z values of cases, a row a case; bounded, whatever the table holds.

        Parameters
        ----------
        absent
            What stands for a gene that the table lacks: nothing, or the mean of the training cases,
            which is z = 0 (:meth:`absent_genes` says which).

        Raises
        ------
        DataError
            O05 the table lacks genes of the panel, or O09 all of them because one side holds
            Ensembl ids and the other symbols.
        """
        missing = self.absent_genes(expression)
        if missing and (absent == "refuse" or len(missing) == len(self.genes)):
            raise self._lacks(missing, expression)
        place = {g: i for i, g in enumerate(expression.genes)}
        there = [i for i, g in enumerate(self.genes) if g in place]
        z = np.zeros((len(case_ids), len(self.genes)), dtype=np.float32)
        raw = expression.rows(tuple(case_ids))[:, [place[self.genes[i]] for i in there]]
        raw = np.where(np.isnan(raw), self.median[there], raw)
        inside = np.clip(raw, self.low[there], self.high[there])
        z[:, there] = (inside - self.centre[there]) / self.scale[there]
        return z

    def _lacks(self, missing: Sequence[str], expression: Expression) -> MomkdError:
        what = f"lacks {len(missing)} of the panel's {len(self.genes)} genes: "
        what += ", ".join(missing[:5])
        here, there = (sum(map(is_ensembl, g)) * 2 > len(g) for g in (self.genes, expression.genes))
        if here != there:
            what += f" (one side holds Ensembl ids, the other symbols: {expression.genes[0]})"
            return DataError.of("O09", "RNA table", what, "set data.gene_map: a probemap")
        return DataError.of("O05", "RNA table", what, "give a table that has these genes")

    def has_seen(self, case_id: str) -> bool:
        """Say whether a case had a part in the fit."""
        return _short_digest(case_id) in set(self.fitted_on)

    def require_disjoint(self, case_ids: Iterable[str]) -> None:
        """Make sure that none of these cases had a part in the fit.

        Raises
        ------
        IntegrityError
            K07 leakage; the cases are named.
        """
        seen = set(self.fitted_on)
        leaked = sorted({c for c in case_ids if _short_digest(c) in seen})
        if leaked:
            what = f"was fitted on {len(leaked)} held-out cases: {', '.join(leaked[:5])}"
            raise IntegrityError.of("K07", "panel", what, "fit it on the training cases alone")

    def to_json(self) -> str:
        """Write the panel; equal panels give equal text, and every float32 survives exactly."""
        content = {name: getattr(self, name).astype(float).tolist() for name in _ARRAYS}
        content |= {name: list(getattr(self, name)) for name in ("genes", "fitted_on")}
        content |= {name: getattr(self, name) for name in _PLAIN}
        return canonical_json(content)

    @classmethod
    def from_json(cls, text: str) -> "Panel":
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text)
        content.setdefault("median", content["centre"])  # not written before values could miss
        content |= {name: np.array(content[name], dtype=np.float32) for name in _ARRAYS}
        content |= {name: tuple(content[name]) for name in ("genes", "fitted_on")}
        return cls(**content)


def fit_panel(
    expression: Expression, cases: Sequence[Case], options: PanelOptions, seed: int
) -> Panel:
    """Learn limits, scale and genes from the training cases that have RNA.

    The result depends on neither the order of cases nor that of the table's rows and columns.

    Parameters
    ----------
    expression
        Only the rows of ``cases`` are read.
    cases
        Training cases; those without RNA play no part, and labels only where the selector asks.
    seed
        Of the selectors that draw (``mutual_information``, ``xgboost``).

    Raises
    ------
    DataError
        O19 fewer than two training cases with RNA, or one class where the selector needs labels;
        O21 no gene has a score above zero.
    ConfigError
        G11 the extra that brings XGBoost is not installed.
    """
    used = sorted((c for c in cases if c.has_rna), key=lambda c: c.case_id)
    _require_cases(used, options.selector)
    columns = sorted(range(len(expression.genes)), key=lambda i: expression.genes[i])
    names = [expression.genes[i] for i in columns]
    raw = expression.rows([c.case_id for c in used])[:, columns]
    raw, median, gaps = _filled(raw)
    limits = np.quantile(raw.astype(np.float64), [options.winsor, 1 - options.winsor], axis=0)
    low, high = limits.astype(np.float32)
    inside = np.clip(raw, low, high).astype(np.float64)
    centre, scale = inside.mean(axis=0), inside.std(axis=0)
    varies = scale > _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    rank = _Ranking(
        winsorised=inside[:, varies],
        standardised=(inside[:, varies] - centre[varies]) / scale[varies],
        labels=np.unique([c.label for c in used], return_inverse=True)[1].astype(np.int64),
        seed=seed,
    )
    n_asked = int(varies.sum()) if options.selector == "all" else options.n_genes
    chosen = np.flatnonzero(varies)[_best(rank, options.selector, n_asked)]
    if not len(chosen):
        what = f"{options.selector} gives none of {len(names)} genes a score above zero"
        raise DataError.of("O21", "panel", what, "choose another panel.selector")
    return Panel(
        genes=tuple(names[i] for i in chosen),
        low=low[chosen],
        high=high[chosen],
        centre=centre[chosen].astype(np.float32),
        scale=scale[chosen].astype(np.float32),
        median=np.median(raw[:, chosen], axis=0) if median is None else median[chosen],
        selector=options.selector,
        n_asked=n_asked,
        dropped_genes={
            names[i]: _why_dropped(raw[:, i], int(gaps[:, i].sum()))
            for i in np.flatnonzero(~varies)
        },
        fitted_on=tuple(sorted(_short_digest(c.case_id) for c in used)),
        n_imputed=int(gaps[:, chosen].sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ranking:
    """What a selector may look at: genes in order of name, training cases only."""

    winsorised: Float64[np.ndarray, "n_cases n_genes"]
    standardised: Float64[np.ndarray, "n_cases n_genes"]
    labels: Int64[np.ndarray, " n_cases"]
    seed: int


def _best(rank: _Ranking, selector: str, n_asked: int) -> Int64[np.ndarray, " n_best"]:
    """Give the places of the best genes; a score of zero is never among them."""
    if rank.winsorised.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    scores = _SELECTORS[selector](rank)
    # a stable sort leaves equal scores in the order of names
    best = np.argsort(-scores, kind="stable")[:n_asked]
    return best[scores[best] > 0]


_Scores: TypeAlias = Float64[np.ndarray, " n_genes"]


def _anova(rank: _Ranking) -> _Scores:
    from sklearn.feature_selection import f_classif

    with np.errstate(divide="ignore", invalid="ignore"):
        scores = f_classif(rank.standardised, rank.labels)[0]
    # no spread within the classes: infinitely good if they differ, worthless if they do not
    return np.nan_to_num(scores, nan=0.0, posinf=np.finfo(np.float64).max)


def _mutual_information(rank: _Ranking) -> _Scores:
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(rank.standardised, rank.labels, random_state=rank.seed % 2**32)


def _variance(rank: _Ranking) -> _Scores:
    return rank.winsorised.var(axis=0)


def _xgboost(rank: _Ranking) -> _Scores:
    try:
        from xgboost import XGBClassifier
    except ImportError:
        what = "xgboost is not installed"
        remedy = 'pip install "momkd[xgb]", or choose anova'
        raise ConfigError.of("G11", "panel.selector", what, remedy) from None
    trees = XGBClassifier(
        n_estimators=100, max_depth=3, tree_method="hist", n_jobs=1, random_state=rank.seed % 2**31
    )
    trees.fit(rank.standardised, rank.labels)
    # 100 trees of depth 3 split at most 700 times: all other genes keep 0 and are not selected
    return trees.feature_importances_.astype(np.float64)


def _all(rank: _Ranking) -> _Scores:
    return np.ones(rank.winsorised.shape[1])


_SELECTORS: dict[str, Callable[[_Ranking], _Scores]] = {
    "anova": _anova,
    "mutual_information": _mutual_information,
    "variance": _variance,
    "xgboost": _xgboost,
    "all": _all,
}
_BLIND_TO_LABELS = ("variance", "all")


def _require_cases(used: Sequence[Case], selector: str) -> None:
    n_classes = len({c.label for c in used})
    if len(used) < 2 or (n_classes < 2 and selector not in _BLIND_TO_LABELS):
        what = f"{len(used)} training cases with RNA, of {n_classes} class(es)"
        remedy = "RNA is needed for training cases of both classes"
        raise DataError.of("O19", f"panel ({selector})", what, remedy)


def _filled(
    raw: Float32[np.ndarray, "n_cases n_genes"],
) -> tuple[
    Float32[np.ndarray, "n_cases n_genes"],
    Float32[np.ndarray, " n_genes"] | None,
    Bool[np.ndarray, "n_cases n_genes"],
]:
    """Put the median of the others where values are missing; 0 where all are, so none varies."""
    gaps = np.isnan(raw)
    if not gaps.any():
        return raw, None, gaps
    median = np.zeros(raw.shape[1], dtype=np.float32)
    some = ~gaps.all(axis=0)
    median[some] = np.nanmedian(raw[:, some], axis=0)
    return np.where(gaps, median, raw), median, gaps


def _why_dropped(raw: Float32[np.ndarray, " n_cases"], n_missing: int) -> str:
    if n_missing == len(raw):
        return f"missing in all {len(raw)} training cases"
    n_other = int((raw != np.median(raw)).sum())
    if n_other == 0:
        return f"constant in all {len(raw)} training cases"
    return f"constant after winsorising: {n_other} of {len(raw)} training cases differ"


def _short_digest(case_id: str) -> str:
    return digest_bytes(case_id.encode())[:16]
