"""Do sites predict labels? Counts, a permutation test, and what knowing the site alone is worth."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from momkd.types import Cohort, Fold

N_DRAWS = 9_999
ALPHA = 0.05
_UNKNOWN = "(unknown)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLabels:
    """The table of sites and labels, cases with a slide only, and its test.

    Parameters
    ----------
    rows
        ``site, cases, positives, share``, largest site first.
    chi_square, freedom
        Pearson's statistic of the table and its degrees of freedom.
    p_value
        Share of tables drawn with the same margins whose statistic is at least as large, this one
        counted: many sites are too small for the chi-square distribution.
    cramers_v
        sqrt(chi_square / n), 0 none and 1 full association.
    """

    rows: tuple[dict[str, Any], ...]
    chi_square: float
    freedom: int
    p_value: float
    cramers_v: float

    @property
    def predicts(self) -> bool:
        """Whether the label differs between sites by more than chance (p < 0.05)."""
        return self.p_value < ALPHA

    def sentence(self) -> str:
        """Say it in one line."""
        test = (
            f"chi-square {self.chi_square:.1f}, {self.freedom} df, permutation p "
            f"{self.p_value:.4f}, Cramer's V {self.cramers_v:.2f}"
        )
        if self.predicts:
            return (
                f"warning: sites predict labels ({test}): folds that mix sites reward recognising "
                "the site; report site-preserved folds beside them"
            )
        return f"sites: labels do not differ between {len(self.rows)} sites beyond chance ({test})"


def examine_sites(cohort: Cohort, *, n_draws: int = N_DRAWS) -> SiteLabels | None:
    """Test whether labels differ between sites; None where fewer than two sites are known.

    The null distribution is drawn with a fixed seed, positives scattered over cases at random.
    """
    scored = [c for c in cohort.cases if c.slide_ids]
    sizes = Counter(c.site or _UNKNOWN for c in scored)
    if len(set(sizes) - {_UNKNOWN}) < 2:
        return None
    positives = Counter(c.site or _UNKNOWN for c in scored if c.label == 1)
    sites = sorted(sizes, key=lambda s: (-sizes[s], s))
    n = np.array([sizes[s] for s in sites], dtype=np.int64)
    k = np.array([positives[s] for s in sites], dtype=np.int64)
    if k.sum() in (0, n.sum()):
        return None
    found = float(_statistic(n, k[None])[0])
    draws = np.random.default_rng(0).multivariate_hypergeometric(n, int(k.sum()), size=n_draws)
    # equal tables must count as equal whatever the rounding
    n_as_large = int((_statistic(n, draws) >= found * (1 - 1e-12)).sum())
    rows = tuple(
        {"site": s, "cases": int(a), "positives": int(b), "share": float(b / a)}
        for s, a, b in zip(sites, n, k, strict=True)
    )
    return SiteLabels(
        rows=rows,
        chi_square=found,
        freedom=len(sites) - 1,
        p_value=(1 + n_as_large) / (1 + n_draws),
        cramers_v=math.sqrt(found / float(n.sum())),
    )


def site_only_auroc(folds: Sequence[Fold], cohort: Cohort) -> float:
    """Give the mean AUROC on test sides of guessing a case's label from its site and nothing else.

    The guess is the site's share of positives in training and validation, drawn to the overall
    share by one case's weight: 0.5 where no test site has been seen. NaN where no side has both
    classes.
    """
    from sklearn.metrics import roc_auc_score

    by_id = {c.case_id: c for c in cohort.cases}
    areas = []
    for fold in folds:
        known = [by_id[c] for c in (*fold.train, *fold.val)]
        seen = Counter(c.site for c in known)
        positive = Counter(c.site for c in known if c.label == 1)
        prior = sum(positive.values()) / max(1, len(known))
        tested = [by_id[c] for c in fold.test]
        guess = [(positive[c.site] + prior) / (seen[c.site] + 1) for c in tested]
        labels = [int(c.label == 1) for c in tested]
        if len(set(labels)) == 2:
            areas.append(float(roc_auc_score(labels, guess)))
    return float(np.mean(areas)) if areas else math.nan


def _statistic(
    sizes: Int64[np.ndarray, " n_sites"], positives: Int64[np.ndarray, "draws n_sites"]
) -> Float64[np.ndarray, " draws"]:
    """Give Pearson's chi-square of two rows (positive, negative) by site."""
    share = positives.sum(axis=1, keepdims=True) / sizes.sum()
    off = positives - share * sizes
    return (off**2 / sizes).sum(axis=1) / (share * (1 - share))[:, 0]
