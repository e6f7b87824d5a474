"""The proof of a protocol: what stands on each side, in figures, and what was verified of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from momkd.data.fold_options import FoldOptions
from momkd.data.site_folds import require_sites_apart
from momkd.data.site_labels import SiteLabels, examine_sites, site_only_auroc
from momkd.data.split_table import SIDES
from momkd.errors import IntegrityError, Problem, Problems
from momkd.storage import canonical_json, digest_bytes
from momkd.types import Case, Cohort, Fold

_SHOWN_SITES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What can be shown of a set of folds.

    Parameters
    ----------
    protocol
        What was done, in one line.
    rows
        One a side, see :func:`describe_folds`.
    statements
        What was verified, case by case; each is true of these folds.
    sites
        The table of sites and labels, where sites are known.
    digest
        SHA-256 of who stands where: equal digests, equal folds.
    """

    protocol: str
    rows: tuple[dict[str, Any], ...]
    statements: tuple[str, ...]
    sites: SiteLabels | None
    digest: str

    def as_json(self) -> dict[str, Any]:
        """Give what ``run.json`` keeps; the rows stand there as ``folds``."""
        sites = None
        if self.sites is not None:
            names = ("chi_square", "freedom", "p_value", "cramers_v")
            sites = {name: getattr(self.sites, name) for name in names}
            sites["rows"] = list(self.sites.rows)
        return {
            "protocol": self.protocol,
            "statements": list(self.statements),
            "sites": sites,
            "digest": self.digest,
        }


def prove_folds(
    folds: Sequence[Fold], cohort: Cohort, options: FoldOptions, notes: Sequence[str] = ()
) -> Proof:
    """Verify what a protocol promises, and put it into figures.

    Parameters
    ----------
    notes
        What was said while the folds were made; stands among the statements.

    Raises
    ------
    IntegrityError
        K01 a case, K12 a slide file on two sides of a fold; K05 a site on the test side and
        elsewhere, where sites are to be kept together.
    """
    Problems(_shared(folds, cohort)).refuse(IntegrityError)
    if options.keeps_sites:
        require_sites_apart(folds, cohort, "folds")
    sites = examine_sites(cohort)
    statements = [
        "no case and no slide file (SHA-256) stands on two sides of a fold",
        _say_tested(folds, cohort),
        _say_balance(folds, cohort),
        *_say_sites(folds, cohort, options),
        *([] if sites is None else [sites.sentence()]),
        *notes,
    ]
    return Proof(
        protocol=_name(folds, options),
        rows=tuple(describe_folds(folds, cohort)),
        statements=tuple(statements),
        sites=sites,
        digest=folds_digest(folds),
    )


def folds_digest(folds: Iterable[Fold]) -> str:
    """SHA-256 of who stands where in these folds, in their order."""
    content = [[f.seed, f.index, *(sorted(getattr(f, side)) for side in SIDES)] for f in folds]
    return digest_bytes(canonical_json(content).encode())


def describe_folds(folds: Iterable[Fold], cohort: Cohort) -> list[dict[str, Any]]:
    """Count what stands on each side of each fold.

    Returns
    -------
    list of dict
        A row a side: ``seed fold side cases slides positives rna sites sites_in_train largest
        digest``; ``positives`` are cases of the second class, ``sites_in_train`` those of the
        side's sites of which slides train, ``largest`` the largest sites, ``digest`` the first 12
        characters of the SHA-256 of the case ids.
    """
    cases = {c.case_id: c for c in cohort.cases}
    rows = []
    for fold in folds:
        taught = _sites(cases[c] for c in fold.train if cases[c].slide_ids)
        for side in SIDES:
            members = [cases[c] for c in getattr(fold, side)]
            rows.append(
                {
                    "seed": fold.seed,
                    "fold": fold.index,
                    "side": side,
                    "cases": len(members),
                    "slides": sum(len(c.slide_ids) for c in members),
                    "positives": sum(c.label == 1 for c in members),
                    "rna": sum(c.has_rna for c in members),
                    "sites": len(_sites(members)),
                    "sites_in_train": len(_sites(members) & taught),
                    "largest": _largest(members),
                    "digest": _digest(members),
                }
            )
    return rows


def _name(folds: Sequence[Fold], options: FoldOptions) -> str:
    n_seeds = len({f.seed for f in folds})
    n = len(folds) // max(1, n_seeds)
    if options.file is not None:
        how = f"{n} folds given by {options.file.name}"
        how += ", sites kept together" if options.keeps_sites else ""
    elif options.scheme == "leave_one_site_out":
        how = f"leave one site out, {n} test sides"
    elif options.site_preserved:
        how = f"{n} folds by whole sites, class balance by integer programming"
    else:
        how = f"{n} folds by case, stratified by label"
    return f"{how}; {n_seeds} seed{'s' if n_seeds != 1 else ''}; test cases scored once a seed"


def _shared(folds: Sequence[Fold], cohort: Cohort) -> Iterator[Problem]:
    """Find cases and slide files on two sides of a fold."""
    cases = {c.case_id: c for c in cohort.cases}
    for fold in folds:
        where = f"fold {fold.index} (seed {fold.seed})"
        held: dict[str, str] = {}
        for side in SIDES:
            for case_id in getattr(fold, side):
                if held.setdefault(case_id, side) != side:
                    what = f"case {case_id} stands in {held[case_id]} and {side}"
                    yield Problem(code="K01", where=where, what=what, remedy="one side a case")
                for slide_id in cases[case_id].slide_ids:
                    sha256 = cohort.slides[slide_id].content_sha256
                    if held.setdefault(sha256, side) != side:
                        what = f"the file of {slide_id} stands in {held[sha256]} and {side}"
                        remedy = "keep a slide under the case it belongs to"
                        yield Problem(code="K12", where=where, what=what, remedy=remedy)


def _say_tested(folds: Sequence[Fold], cohort: Cohort) -> str:
    scored = {c.case_id for c in cohort.cases if c.slide_ids}
    seeds = sorted({f.seed for f in folds})
    missed = sum(len(scored.difference(*(f.test for f in folds if f.seed == s))) for s in seeds)
    text = f"each of {len(scored)} cases with a slide is tested exactly once a seed"
    if missed:
        text = (
            f"of {len(scored)} cases with a slide {missed / len(seeds):g} a seed are never tested"
        )
    rna_only = {c.case_id for c in cohort.cases if not c.slide_ids}
    if rna_only:
        held = [len(rna_only.intersection(f.train)) for f in folds]
        text += f"; of {len(rna_only)} cases with RNA alone {_span(held)} train in a fold"
    return text


def _say_balance(folds: Sequence[Fold], cohort: Cohort) -> str:
    """Give the range over test sides of the share of each class, and of the positives."""
    label = {c.case_id: c.label for c in cohort.cases if c.slide_ids}
    total = np.bincount(list(label.values()), minlength=len(cohort.class_names))
    held = np.array(
        [np.bincount([label[c] for c in f.test], minlength=len(total)) for f in folds if f.test]
    )
    if not len(held):
        return "nobody is tested"
    share = held / total
    parts = [
        f"{100 * share[:, g].min():.1f} to {100 * share[:, g].max():.1f} % of {name}"
        for g, name in enumerate(cohort.class_names)
    ]
    prevalence = held[:, 1] / held.sum(axis=1)
    return (
        f"a test side holds {' and '.join(parts)}; positives are {100 * prevalence.min():.1f} to "
        f"{100 * prevalence.max():.1f} % of it ({100 * total[1] / total.sum():.1f} % of all)"
    )


def _say_sites(folds: Sequence[Fold], cohort: Cohort, options: FoldOptions) -> Iterator[str]:
    cases = {c.case_id: c for c in cohort.cases}
    if not _sites(cohort.cases):
        yield "sites are unknown: whether they cross between training and test cannot be said"
        return
    crossing, apart = [], 0
    for fold in folds:
        taught = _sites(cases[c] for c in fold.train)
        crossing.append(len(_sites(cases[c] for c in fold.test) & taught))
        apart += not _sites(cases[c] for c in fold.val) & taught
    if options.keeps_sites:
        yield (
            "no site stands on the test side of a fold and elsewhere in it; validation sites are "
            f"apart from training too in {apart} of {len(folds)} folds"
        )
    elif any(f.test for f in folds):
        tested = [len(_sites(cases[c] for c in f.test)) for f in folds]
        yield (
            f"sites cross: of {_span(tested)} sites on a test side {_span(crossing)} also train "
            f"(--site-preserved keeps them together)"
        )
    area = site_only_auroc(folds, cohort)
    if not np.isnan(area):
        yield f"recognising the site and nothing else would reach AUROC {area:.3f} on these folds"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _largest(members: Sequence[Case]) -> str:
    sizes: dict[str, int] = {}
    for case in members:
        if case.site is not None:
            sizes[case.site] = sizes.get(case.site, 0) + 1
    rank = sorted(sizes, key=lambda s: (-sizes[s], s))
    shown = " ".join(f"{s}:{sizes[s]}" for s in rank[:_SHOWN_SITES])
    return f"{shown} +{len(rank) - _SHOWN_SITES}" if len(rank) > _SHOWN_SITES else shown


def _digest(members: Sequence[Case]) -> str:
    return digest_bytes(canonical_json(sorted(c.case_id for c in members)).encode())[:12]


def _sites(cases: Iterable[Case]) -> set[str]:
    return {c.site for c in cases if c.site is not None}
