"""Whole sites shared out over folds by integer programming: classes as even as sites allow.

Site-preserved cross-validation after Howard et al., Nature Communications 12 (2021) 4423, who
minimise squared deviations; here absolute ones, which keep the programme linear, so that SciPy's
own solver (HiGHS) proves the optimum. Work is bounded in nodes of the search and not in seconds:
the same sites give the same answer on a slow machine.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

_MAX_NODES = 5_000
_SOLVED = 1e-9  # an excess below this is rounding of the solver


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shares:
    """Which group each site goes to.

    ``excess`` is what the counts of a class deviate, summed over groups and as a share of the
    class, beyond what whole cases force (5 folds of 101 cases hold 20 or 21); ``is_optimal`` says
    that no other assignment has less.
    """

    group: Int64[np.ndarray, " n_sites"]
    excess: float
    is_optimal: bool


def share_out(
    counts: Int64[np.ndarray, "n_sites n_classes"],
    n_groups: int,
    *,
    least: int = 1,
    left: int = 2,
    max_nodes: int = _MAX_NODES,
) -> Shares | None:
    """Give each site to one group, so that groups hold equal counts of every class.

    Minimises sum over groups g and classes c of d_gc / N_c, where d_gc is how far the count of c
    in g lies outside [floor(N_c / n_groups), ceil(N_c / n_groups)].

    Parameters
    ----------
    counts
        Cases of each class at each site. The order of sites decides between equal solutions.
    n_groups
        Groups to be made.
    least, left
        Cases of each class that every group must hold, and that must be left outside of it.
    max_nodes
        Bound of the search.

    Returns
    -------
    Shares or None
        None where no assignment gives every group its classes, or none was found within the bound.
    """
    n_sites, n_classes = counts.shape
    total = counts.sum(axis=0)
    n_x = n_sites * n_groups
    x = np.arange(n_x).reshape(n_sites, n_groups)
    d = n_x + np.arange(n_groups * n_classes).reshape(n_groups, n_classes)
    rows = _Rows(n_x + d.size)
    for site in range(n_sites):
        rows.add(x[site], np.ones(n_groups), 1.0, 1.0)
    for g in range(n_groups):
        for c in range(n_classes):
            places, share = np.append(x[:, g], d[g, c]), float(total[c]) / n_groups
            for sign, low, high in (
                (0.0, float(least), float(total[c] - left)),
                (-1.0, -np.inf, math.ceil(share)),
                (1.0, math.floor(share), np.inf),
            ):
                weights = np.append(counts[:, c].astype(np.float64), sign)
                rows.add(places, weights, float(low), float(high))
    cost = np.zeros(rows.n_columns)
    cost[d] = 1.0 / np.maximum(total, 1)
    upper = np.append(np.ones(n_x), np.full(d.size, np.inf))
    # groups have no names: the largest site may only go to the first, the next to the first two
    for place, site in enumerate(np.argsort(-counts.sum(axis=1), kind="stable")[:n_groups]):
        upper[x[site, place + 1 :]] = 0
    found = _solve(cost, rows, upper, n_whole=n_x, max_nodes=max_nodes)
    if found is None:
        return None
    values, excess, is_optimal = found
    group = values[:n_x].reshape(n_sites, n_groups).argmax(axis=1).astype(np.int64)
    return Shares(group=group, excess=excess, is_optimal=is_optimal)


def choose_sites(
    counts: Int64[np.ndarray, "n_sites n_classes"],
    wanted: Int64[np.ndarray, " n_classes"],
    *,
    max_nodes: int = _MAX_NODES,
) -> Bool[np.ndarray, " n_sites"] | None:
    """Choose sites that together hold ``wanted`` cases of each class, as nearly as sites allow.

    Returns
    -------
    array or None
        None where every choice holds less than half or more than twice of what is wanted of some
        class, or leaves none of it.
    """
    n_sites, n_classes = counts.shape
    total = counts.sum(axis=0)
    d = n_sites + np.arange(n_classes)
    rows = _Rows(n_sites + n_classes)
    for c in range(n_classes):
        wish = float(wanted[c])
        low = max(1.0, float(math.ceil(wish / 2)))
        high = min(float(total[c]) - 1, max(2 * wish, 1.0))
        if low > high:
            return None
        places = np.append(np.arange(n_sites), d[c])
        for sign, bottom, top in ((0.0, low, high), (-1.0, -np.inf, wish), (1.0, wish, np.inf)):
            rows.add(places, np.append(counts[:, c].astype(np.float64), sign), bottom, top)
    cost = np.append(np.zeros(n_sites), 1.0 / np.maximum(wanted, 1))
    upper = np.append(np.ones(n_sites), np.full(n_classes, np.inf))
    found = _solve(cost, rows, upper, n_whole=n_sites, max_nodes=max_nodes)
    return None if found is None else found[0][:n_sites] > 0.5


class _Rows:
    """Constraints low <= A v <= high, gathered a row at a time."""

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns
        self.low: list[float] = []
        self.high: list[float] = []
        self._places: list[Int64[np.ndarray, " n"]] = []
        self._values: list[Float64[np.ndarray, " n"]] = []

    def add(
        self,
        places: Int64[np.ndarray, " n"],
        values: Float64[np.ndarray, " n"],
        low: float,
        high: float,
    ) -> None:
        """Add one."""
        self._places.append(places)
        self._values.append(values)
        self.low.append(low)
        self.high.append(high)

    def constraint(self) -> Any:
        """Give all of them, as scipy's LinearConstraint."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import coo_array

        row = np.repeat(np.arange(len(self.low)), [len(p) for p in self._places])
        entries = (np.concatenate(self._values), (row, np.concatenate(self._places)))
        matrix = coo_array(entries, shape=(len(self.low), self.n_columns)).tocsr()
        return LinearConstraint(matrix, np.array(self.low), np.array(self.high))


def _solve(
    cost: Float64[np.ndarray, " n"],
    rows: _Rows,
    upper: Float64[np.ndarray, " n"],
    *,
    n_whole: int,
    max_nodes: int,
) -> tuple[Float64[np.ndarray, " n"], float, bool] | None:
    """Give values, cost and whether it is proved least; None without a solution."""
    from scipy.optimize import Bounds, milp

    whole = np.append(np.ones(n_whole), np.zeros(len(cost) - n_whole)).astype(np.int8)
    answer = milp(
        cost,
        constraints=rows.constraint(),
        bounds=Bounds(np.zeros(len(cost)), upper),
        integrality=whole,
        options={"node_limit": max_nodes},
    )
    if answer.x is None:
        return None
    excess = max(0.0, float(answer.fun))
    is_proved = int(answer.status) == 0 or excess < _SOLVED
    return np.asarray(answer.x), excess, is_proved
