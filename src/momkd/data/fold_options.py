"""How cases are split: the block ``folds`` of a configuration."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from momkd.config import Options


class FoldOptions(Options):
    """How cases are split.

    Parameters
    ----------
    scheme
        ``k_fold``, or ``leave_one_site_out``: each site of ``min_site_cases`` cases, five of each
        class among them, is tested once by itself, and ``n`` is not used.
    n
        Folds; every case with a slide is tested once a seed.
    val_fraction
        Share of all cases with a slide that stands in validation: 0.1 with 5 folds is 7:1:2.
    seed
        Of the first split; repeats count on from it.
    site_preserved
        Keep sites together: none stands on the test side of a fold and elsewhere in it, and
        validation takes whole sites where some hold about ``val_fraction`` of each class. Always so
        with ``leave_one_site_out``.
    min_site_cases, small_sites
        Of ``leave_one_site_out``: what a site must hold to be tested by itself; those with less
        are tested together (``group``) or refused (``refuse``).
    file
        A table of splits to use instead (see :func:`read_folds`).
    allow_subset
        That table may name other cases, miss some of the cohort, test only a part, and come from
        another version of the cohort.
    """

    scheme: Literal["k_fold", "leave_one_site_out"] = "k_fold"
    n: int = Field(5, ge=2)
    val_fraction: float = Field(0.1, gt=0, lt=0.5)
    seed: int = Field(0, ge=0)
    site_preserved: bool = False
    min_site_cases: int = Field(20, ge=2)
    small_sites: Literal["group", "refuse"] = "group"
    file: Path | None = None
    allow_subset: bool = False

    @property
    def keeps_sites(self) -> bool:
        """Whether sites are kept together."""
        return self.site_preserved or self.scheme == "leave_one_site_out"
