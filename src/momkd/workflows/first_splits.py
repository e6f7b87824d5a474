"""The folds that a configuration asks for first: those given, or those of its first seed."""

from momkd.data.cohort import cohort_digest
from momkd.data.folds import FoldOptions, make_folds, read_folds
from momkd.types import Cohort, Fold


def first_splits(cohort: Cohort, options: FoldOptions) -> tuple[Fold, ...]:
    """Make the folds of the first seed, or read the given ones; raises as these do."""
    if options.file is None:
        return make_folds(cohort, options, options.seed)
    return read_folds(
        options.file,
        cohort,
        cohort_digest=cohort_digest(cohort),
        allow_subset=options.allow_subset,
        val_fraction=options.val_fraction,
    )
