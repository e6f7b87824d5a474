"""The genes a fold learns from, and their scale: fitted on its training cases and nobody else."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import Field
from sklearn.feature_selection import f_classif, mutual_info_classif

from momkd.config import Options
from momkd.errors import ConfigError, DataError, IntegrityError
from momkd.types import Case, Expression

Selector = Literal["anova", "mutual_information", "variance", "xgboost", "all"]


class PanelOptions(Options):
    """How genes are chosen and scaled.

    Parameters
    ----------
    selector
        ``anova`` F, ``mutual_information``, ``variance``, ``xgboost`` importance (100 trees of
        depth 3, as published; an extra), or ``all`` genes that vary.
    n_genes
        Genes asked for; fewer where fewer carry a score.
    winsor
        Share at either end that is pulled in to the quantile before scaling; real tables reach
        |z| > 50.
    """

    selector: Selector = "anova"
    n_genes: int = Field(768, ge=1)
    winsor: float = Field(0.01, ge=0, lt=0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Genes in order of rank, and what turns a raw value into z = (clip(v) - centre) / scale."""

    genes: tuple[str, ...]
    low: Float32[np.ndarray, " n_genes"]
    high: Float32[np.ndarray, " n_genes"]
    centre: Float32[np.ndarray, " n_genes"]
    scale: Float32[np.ndarray, " n_genes"]
    selector: str
    n_asked: int
    dropped_genes: dict[str, str]
    fitted_on: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """Say what a reader should know: fewer genes than asked, genes dropped."""
        found = []
        if len(self.genes) < self.n_asked:
            found.append(
                f"panel: {len(self.genes)} of {self.n_asked} genes asked carry a score "
                f"({self.selector})"
            )
        if self.dropped_genes:
            found.append(f"panel: {len(self.dropped_genes)} genes do not vary in training")
        return found

    def transform(
        self, expression: Expression, case_ids: Sequence[str]
    ) -> Float32[np.ndarray, "n_cases n_genes"]:
        """Give the panel's values of cases.

        Raises
        ------
        DataError
            O05 the table lacks genes of the panel.
        """
        place = {g: i for i, g in enumerate(expression.genes)}
        missing = [g for g in self.genes if g not in place]
        if missing:
            what = f"lacks {len(missing)} of {len(self.genes)} genes (first: {missing[0]})"
            raise DataError.of("O05", "RNA table", what, "give a table with these genes")
        values = expression.rows(list(case_ids))[:, [place[g] for g in self.genes]]
        return (np.clip(values, self.low, self.high) - self.centre) / self.scale

    def require_disjoint(self, case_ids: Iterable[str]) -> None:
        """Make sure that none of these cases was fitted on.

        Raises
        ------
        IntegrityError
            K07 leakage.
        """
        seen = set(self.fitted_on)
        leaked = sorted(c for c in case_ids if _hash(c) in seen)
        if leaked:
            what = f"was fitted on {len(leaked)} held-out cases (first: {leaked[0]})"
            raise IntegrityError.of("K07", "panel", what, "fit it on training cases only")

    def to_json(self) -> str:
        """Write the panel; float32 values survive exactly."""
        content: dict[str, Any] = {
            "selector": self.selector,
            "n_asked": self.n_asked,
            "genes": list(self.genes),
            "dropped_genes": self.dropped_genes,
            "fitted_on": list(self.fitted_on),
        }
        for name in ("low", "high", "centre", "scale"):
            content[name] = [float(v) for v in getattr(self, name)]
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Panel":
        """Read what :meth:`to_json` wrote."""
        content = json.loads(text)
        for name in ("low", "high", "centre", "scale"):
            content[name] = np.array(content[name], dtype=np.float32)
        for name in ("genes", "fitted_on"):
            content[name] = tuple(content[name])
        return cls(**content)


def fit_panel(
    expression: Expression, cases: Sequence[Case], options: PanelOptions, seed: int
) -> Panel:
    """Fit scale and genes on training cases with RNA.

    Parameters
    ----------
    expression
        The table; only the rows of ``cases`` are looked at.
    cases
        Training cases with RNA; their labels rank the genes.
    seed
        Of selectors that draw.

    Raises
    ------
    DataError
        O26 fewer than two cases or one class with RNA, O27 no gene carries a score.
    ConfigError
        G11 the XGBoost extra is not installed.
    """
    cases = sorted(cases, key=lambda c: c.case_id)
    labels = np.array([c.label for c in cases], dtype=np.int64)
    if len(set(labels.tolist())) < 2:
        what = f"{len(cases)} training cases with RNA, of {len(set(labels.tolist()))} class(es)"
        raise DataError.of("O26", "panel", what, "RNA is needed for cases of both classes")
    values = expression.rows([c.case_id for c in cases]).astype(np.float64)
    low, high = np.quantile(values, [options.winsor, 1 - options.winsor], axis=0)
    inside = np.clip(values, low, high)
    centre, scale = inside.mean(axis=0), inside.std(axis=0)
    varies = scale > 1e-6 * np.maximum(1.0, np.abs(centre))
    standard = (inside[:, varies] - centre[varies]) / scale[varies]
    names = np.array(expression.genes)[varies]
    scores = _SELECTORS[options.selector](standard, inside[:, varies], labels, seed)
    order = np.lexsort((names, -scores))
    wanted = len(names) if options.selector == "all" else options.n_genes
    chosen = [i for i in order[:wanted] if scores[i] > 0]
    if not chosen:
        what = f"no gene carries a {options.selector} score"
        raise DataError.of("O27", "panel", what, "choose another panel.selector")
    rows = np.flatnonzero(varies)[chosen]
    dropped = [g for g, keep in zip(expression.genes, varies, strict=True) if not keep]
    return Panel(
        genes=tuple(str(expression.genes[i]) for i in rows),
        low=low[rows].astype(np.float32),
        high=high[rows].astype(np.float32),
        centre=centre[rows].astype(np.float32),
        scale=scale[rows].astype(np.float32),
        selector=options.selector,
        n_asked=wanted,
        dropped_genes=dict.fromkeys(dropped, "does not vary among training cases"),
        fitted_on=tuple(sorted(_hash(c.case_id) for c in cases)),
    )


_Values = Float64[np.ndarray, "n_cases n_genes"]
_Labels = Int64[np.ndarray, " n_cases"]
_Scores = Float64[np.ndarray, " n_genes"]


def _anova(standard: _Values, inside: _Values, labels: _Labels, seed: int) -> _Scores:
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = f_classif(standard, labels)[0]
    return np.nan_to_num(scores, nan=0.0, posinf=np.finfo(np.float64).max)


def _mutual_information(standard: _Values, inside: _Values, labels: _Labels, seed: int) -> _Scores:
    return mutual_info_classif(standard, labels, random_state=seed % 2**31, n_jobs=1)


def _variance(standard: _Values, inside: _Values, labels: _Labels, seed: int) -> _Scores:
    return inside.var(axis=0)


def _xgboost(standard: _Values, inside: _Values, labels: _Labels, seed: int) -> _Scores:
    try:
        from xgboost import XGBClassifier
    except ImportError:
        what = "selector xgboost needs an extra that is not installed"
        remedy = 'pip install "momkd[xgb]", or choose anova'
        raise ConfigError.of("G11", "panel.selector", what, remedy) from None
    trees = XGBClassifier(
        n_estimators=100, max_depth=3, random_state=seed % 2**31, n_jobs=1, tree_method="hist"
    )
    trees.fit(standard, labels)
    # a gene that no tree uses has importance 0: it is not selected, however many were asked
    return trees.feature_importances_.astype(np.float64)


def _all(standard: _Values, inside: _Values, labels: _Labels, seed: int) -> _Scores:
    return np.ones(standard.shape[1])


_SELECTORS: dict[str, Callable[[_Values, _Values, _Labels, int], _Scores]] = {
    "anova": _anova,
    "mutual_information": _mutual_information,
    "variance": _variance,
    "xgboost": _xgboost,
    "all": _all,
}


def _hash(case_id: str) -> str:
    return hashlib.sha256(case_id.encode()).hexdigest()[:16]
