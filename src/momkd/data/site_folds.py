"""Folds that keep sites together: a model is tested on slides of hospitals it has never seen."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from momkd.data.site_program import choose_sites, share_out
from momkd.errors import DataError, IntegrityError, Problem, Problems
from momkd.types import Case, Cohort, Fold

MIN_OF_A_CLASS = 5
"""Cases of each class that a site must hold to be tested by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteCounts:
    """Cases with a slide of each class at each site, sites in the order of their names."""

    sites: tuple[str, ...]
    counts: Int64[np.ndarray, "n_sites n_classes"]

    @property
    def sizes(self) -> Int64[np.ndarray, " n_sites"]:
        """Cases of each site."""
        return self.counts.sum(axis=1)

    def without(self, sites: frozenset[str]) -> "SiteCounts":
        """Leave some out."""
        kept = [i for i, s in enumerate(self.sites) if s not in sites]
        return SiteCounts(sites=tuple(self.sites[i] for i in kept), counts=self.counts[kept])


def count_sites(cohort: Cohort) -> SiteCounts:
    """Count classes by site.

    Raises
    ------
    DataError
        K14 cases whose site is unknown: nobody can say that they are of another hospital.
    """
    unknown = sorted(c.case_id for c in cohort.cases if c.site is None)
    if unknown:
        what = f"{len(unknown)} cases have no site (first: {', '.join(unknown[:3])})"
        remedy = "give a site column (data.columns.site), or leave site_preserved off"
        raise DataError.of("K14", "folds.site_preserved", what, remedy)
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(cohort.class_names))
    for case in cohort.cases:
        if case.slide_ids:
            counts[site_of(case)][case.label] += 1
    sites = tuple(sorted(counts))
    table = np.array([counts[s] for s in sites], dtype=np.int64)
    return SiteCounts(sites=sites, counts=table.reshape(len(sites), len(cohort.class_names)))


def site_of(case: Case) -> str:
    """Give the site of a case that has one."""
    if case.site is None:
        raise ValueError(f"{case.case_id}: no site")
    return case.site


def deal_sites(
    cohort: Cohort, n: int, rng: np.random.Generator
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Deal whole sites over the test sides, classes as even as whole sites allow.

    Of equally good splits the generator draws one.

    Returns
    -------
    tests
        The cases of each test side.
    notes
        Empty where the solver proved that no split is more even.

    Raises
    ------
    DataError
        K06 a site that holds more than 1/n of the cases, or sites that cannot give every side both
        classes; K14 cases without a site.
    """
    known = count_sites(cohort)
    _require_small_sites(known, n)
    order = rng.permutation(len(known.sites))
    shares = share_out(known.counts[order], n)
    if shares is None:
        held = [int((known.counts[:, c] > 0).sum()) for c in range(known.counts.shape[1])]
        shown = ", ".join(
            f"{name} at {k}" for name, k in zip(cohort.class_names, held, strict=True)
        )
        what = f"no way found to give each of {n} folds every class by whole sites ({shown} sites)"
        raise DataError.of("K06", "folds", what, "lower folds.n, or leave site_preserved off")
    names = rng.permutation(n)  # which fold is called 0 says nothing about its sites
    fold_of = {known.sites[i]: int(names[g]) for i, g in zip(order, shares.group, strict=True)}
    notes = []
    if not shares.is_optimal:
        notes.append(
            "sites: the most even split was not proved within the bound of the search; classes "
            f"deviate by {shares.excess:.1%} in all"
        )
    return [_members(cohort, {s for s, f in fold_of.items() if f == k}) for k in range(n)], notes


def group_sites(
    cohort: Cohort, *, min_cases: int, refuse_small: bool
) -> list[tuple[str, tuple[str, ...]]]:
    """Give the test sides of leave-one-site-out: each large site alone, the others together.

    A site is tested alone if it holds ``min_cases`` cases with a slide and five of each class.

    Returns
    -------
    list of (name, case ids)
        Large sites by size, then the rest under ``other sites``.

    Raises
    ------
    DataError
        K06 small sites that are to be refused, a rest that lacks a class, or fewer than two sides;
        K14 cases without a site.
    """
    known = count_sites(cohort)
    is_large = (known.sizes >= min_cases) & (known.counts >= MIN_OF_A_CLASS).all(axis=1)
    rank = sorted(range(len(known.sites)), key=lambda i: (-known.sizes[i], known.sites[i]))
    large = [known.sites[i] for i in rank if is_large[i]]
    small = [i for i in rank if not is_large[i]]
    rule = f"{min_cases} cases and {MIN_OF_A_CLASS} of each class"
    if small and refuse_small:
        shown = ", ".join(f"{known.sites[i]} {known.counts[i].tolist()}" for i in small[:8])
        what = f"{len(small)} of {len(known.sites)} sites have less than {rule}: {shown}"
        remedy = "folds.small_sites: group, or a smaller folds.min_site_cases"
        raise DataError.of("K06", "folds", what, remedy)
    groups = [(s, _members(cohort, {s})) for s in large]
    if small:
        rest = known.counts[small].sum(axis=0)
        if rest.min() < 1:
            held = ", ".join(f"{n} {c}" for n, c in zip(rest, cohort.class_names, strict=True))
            what = f"the sites with less than {rule} hold together {held}"
            raise DataError.of("K06", "folds", what, "change folds.min_site_cases")
        groups.append(("other sites", _members(cohort, {known.sites[i] for i in small})))
    total = known.counts.sum(axis=0)
    if len(groups) < 2 or any(
        (total - _labels(cohort, members)).min() < 2 for _, members in groups
    ):
        what = f"{len(large)} of {len(known.sites)} sites have {rule}: too few to leave one out"
        raise DataError.of("K06", "folds", what, "lower folds.min_site_cases, or another scheme")
    return groups


def hold_out_sites(
    cohort: Cohort, tested: Sequence[str], wanted: Mapping[int, int], rng: np.random.Generator
) -> tuple[str, ...] | None:
    """Choose whole sites for validation among those not tested; None where none will do."""
    by_id = {c.case_id: c for c in cohort.cases}
    known = count_sites(cohort).without(frozenset(site_of(by_id[c]) for c in tested))
    order = rng.permutation(len(known.sites))
    quota = np.array([wanted[g] for g in range(len(cohort.class_names))], dtype=np.int64)
    chosen = choose_sites(known.counts[order], quota)
    if chosen is None:
        return None
    return _members(cohort, {known.sites[i] for i in order[chosen]})


def keep_sites_apart(fold: Fold, cohort: Cohort) -> Fold:
    """Take cases with RNA alone out of training where their site is held out.

    They cannot be scored, so they stand on no side of such a fold.
    """
    by_id = {c.case_id: c for c in cohort.cases}
    held_out = {by_id[c].site for c in fold.test} | _sites_only_in_val(fold, by_id)
    train = tuple(c for c in fold.train if by_id[c].slide_ids or by_id[c].site not in held_out)
    return replace(fold, train=train)


def require_sites_apart(folds: Sequence[Fold], cohort: Cohort, where: str) -> None:
    """Make sure that no site of a test side stands in training or validation.

    Raises
    ------
    IntegrityError
        K05, a problem a fold with the sites that cross.
    """
    by_id = {c.case_id: c for c in cohort.cases}
    problems = Problems()
    for fold in folds:
        taught = {by_id[c].site for c in (*fold.train, *fold.val)}
        crossing = Counter(
            site for c in fold.test if (site := by_id[c].site) in taught and site is not None
        )
        if crossing:
            shown = ", ".join(f"{s} ({n} cases tested)" for s, n in crossing.most_common(5))
            what = (
                f"{len(crossing)} sites stand in training and test of fold {fold.index} "
                f"(seed {fold.seed}): {shown}"
            )
            remedy = "keep each site on one side, or leave folds.site_preserved off"
            problems.add(Problem(code="K05", where=where, what=what, remedy=remedy))
    problems.refuse(IntegrityError)


def _sites_only_in_val(fold: Fold, by_id: Mapping[str, Case]) -> set[str | None]:
    """Give the validation sites of which no slide trains: validation by whole sites."""
    val = {by_id[c].site for c in fold.val}
    return val - {by_id[c].site for c in fold.train if by_id[c].slide_ids}


def _require_small_sites(known: SiteCounts, n: int) -> None:
    total, largest = int(known.sizes.sum()), int(known.sizes.max())
    if largest * n <= total:
        return
    rank = np.argsort(-known.sizes, kind="stable")[:5]
    shown = ", ".join(f"{known.sites[i]} {known.sizes[i]}" for i in rank)
    k = total // largest
    what = f"a site holds {largest} of {total} cases, more than 1/{n}: {shown}"
    remedy = f"folds.n: {k} at most" if k >= 2 else "a site-preserved split is impossible"
    raise DataError.of("K06", "folds", what, remedy)


def _members(cohort: Cohort, sites: set[str]) -> tuple[str, ...]:
    return tuple(sorted(c.case_id for c in cohort.cases if c.slide_ids and c.site in sites))


def _labels(cohort: Cohort, members: Sequence[str]) -> Int64[np.ndarray, " n_classes"]:
    chosen = set(members)
    labels = [c.label for c in cohort.cases if c.case_id in chosen]
    return np.bincount(labels, minlength=len(cohort.class_names)).astype(np.int64)
