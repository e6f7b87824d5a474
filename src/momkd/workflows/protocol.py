"""The protocol of a study: its folds, made or given, and the proof that goes with them."""

from dataclasses import dataclass
from pathlib import Path

from momkd.data.cohort import cohort_digest
from momkd.data.fold_proof import Proof, prove_folds
from momkd.data.folds import FoldOptions, make_splits, read_folds, write_folds
from momkd.types import Cohort, Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The folds of every seed, and what was verified of them."""

    folds: tuple[Fold, ...]
    proof: Proof


def make_protocol(cohort: Cohort, options: FoldOptions, seeds: int = 1) -> Protocol:
    """Make the folds of every seed, or read the given ones, and prove them.

    Raises
    ------
    DataError, IntegrityError
        As :func:`~momkd.data.folds.make_splits`, :func:`~momkd.data.folds.read_folds` and
        :func:`~momkd.data.fold_proof.prove_folds`.
    """
    folds: tuple[Fold, ...]
    notes: list[str] = []
    if options.file is not None:
        folds = read_folds(
            options.file,
            cohort,
            cohort_digest=cohort_digest(cohort),
            allow_subset=options.allow_subset,
            val_fraction=options.val_fraction,
            site_preserved=options.keeps_sites,
        )
    else:
        made = [
            make_splits(cohort, options, seed) for seed in range(options.seed, options.seed + seeds)
        ]
        folds = tuple(fold for splits in made for fold in splits.folds)
        notes = list(dict.fromkeys(note for splits in made for note in splits.notes))
    return Protocol(folds=folds, proof=prove_folds(folds, cohort, options, notes))


def keep_folds(path: Path, protocol: Protocol, cohort: Cohort, options: FoldOptions) -> None:
    """Write ``folds.csv``; folds that an earlier call of the same run made are kept in it."""
    digest = cohort_digest(cohort)
    before: tuple[Fold, ...] = ()
    if path.exists():
        before = read_folds(
            path, cohort, cohort_digest=digest, site_preserved=options.keeps_sites, ours=True
        )
    everything = {(f.seed, f.index): f for f in (*before, *protocol.folds)}
    write_folds(path, [everything[key] for key in sorted(everything)], digest)
