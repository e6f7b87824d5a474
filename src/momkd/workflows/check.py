"""``momkd check``: every door, all faults at once; trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.data.folds import describe_folds
from momkd.workflows.audit import audit_cohort, require_few_skipped
from momkd.workflows.console import count_files
from momkd.workflows.first_splits import first_splits
from momkd.workflows.fold_job import require_trainable
from momkd.workflows.settings import load_settings, parse_models


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found: counts, notes, how many were left out and why, the folds to come."""

    config: Path
    counts: dict[str, Any]
    notes: tuple[str, ...]
    dropped: dict[str, int]
    folds: list[dict[str, Any]]
    manifest: Path


def check(
    config: Path | str | Sequence[Path | str],
    *,
    output: Path | str | None = None,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    workers: int = 1,
) -> CheckReport:
    """Audit a cohort and try its folds.

    The digests of the feature files are written beside the configuration
    (``<name>.features.csv``) the first time, and compared ever after.

    Parameters
    ----------
    output
        Folder for ``cohort.csv`` and ``dropped.csv``.

    Raises
    ------
    MomkdError
        Every fault of every door, together.
    """
    files = [Path(config)] if isinstance(config, str | Path) else [Path(c) for c in config]
    settings = load_settings(files, set_)
    parse_models(None, settings)
    manifest = files[0].with_suffix(".features.csv")
    with count_files("examining feature files") as counter:
        audited = audit_cohort(
            settings.data,
            manifest=manifest,
            n_workers=workers,
            on_start=counter.start,
            on_file=counter.advance,
        )
    audit = audited.audit
    if output is not None:
        audit.write(Path(output))
    require_trainable(settings.model, audit.cohort)
    folds = first_splits(audit.cohort, settings.folds)
    reasons: dict[str, int] = {}
    for row in audit.dropped:
        key = f"{row.kind}: {row.reason_class}"
        reasons[key] = reasons.get(key, 0) + 1
    require_few_skipped(audit.n_skipped, audit.n_listed, max_skip)
    return CheckReport(
        config=files[0],
        counts=audit.counts(),
        notes=audited.notes,
        dropped=reasons,
        folds=describe_folds(folds, audit.cohort),
        manifest=manifest,
    )
