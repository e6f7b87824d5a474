"""Cohorts in memory whose cases stand at sites; nothing lies on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from momkd.types import Case, Cohort, SlideFile


def make_cohort(
    counts: Mapping[str | None, tuple[int, int]], rna_only: Sequence[str | None] = ()
) -> Cohort:
    """Give each site its (negative, positive) cases with a slide, and cases with RNA alone."""
    cases = [
        Case(
            case_id=f"{site}-{label}-{i:03d}",
            slide_ids=(f"{site}-{label}-{i:03d}.s",),
            label=label,
            site=site,
            has_rna=i % 2 == 0,
        )
        for site, numbers in counts.items()
        for label, number in enumerate(numbers)
        for i in range(number)
    ]
    cases += [
        Case(case_id=f"rna-{i}", slide_ids=(), label=i % 2, site=site, has_rna=True)
        for i, site in enumerate(rna_only)
    ]
    slides = {
        s: SlideFile(slide_id=s, path=Path(s), sha256=s, n_tiles=1, dim=1)
        for c in cases
        for s in c.slide_ids
    }
    return Cohort(task="t", class_names=("no", "yes"), cases=tuple(cases), slides=slides)
