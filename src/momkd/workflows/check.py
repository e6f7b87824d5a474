"""``momkd check``: every door, all faults at once; trains nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.data.fold_proof import Proof
from momkd.workflows.audit import audit_cohort, require_few_skipped
from momkd.workflows.console import count_files
from momkd.workflows.protocol import make_protocol
from momkd.workflows.searching import require_searchable
from momkd.workflows.settings import load_settings, parse_models
from momkd.workflows.tabular_job import require_doable


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found: counts, notes, how many were left out and why, the folds to come."""

    config: Path
    counts: dict[str, Any]
    notes: tuple[str, ...]
    dropped: dict[str, int]
    proof: Proof
    manifest: Path


def check(
    config: Path | str | Sequence[Path | str],
    *,
    output: Path | str | None = None,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    workers: int = 1,
    site_preserved: bool = False,
    paired_only: bool = False,
) -> CheckReport:
    """Audit a cohort and try its folds.

    The digests of the feature files are written beside the configuration
    (``<name>.features.csv``) the first time, and compared ever after.

    Parameters
    ----------
    output
        Folder for ``cohort.csv`` and ``dropped.csv``.
    site_preserved, paired_only
        Set ``folds.site_preserved`` and ``data.paired_only``.

    Raises
    ------
    MomkdError
        Every fault of every door, together.
    """
    files = [Path(config)] if isinstance(config, str | Path) else [Path(c) for c in config]
    overrides = [*set_, *(["folds.site_preserved=true"] if site_preserved else [])]
    overrides += ["data.paired_only=true"] if paired_only else []
    settings = load_settings(files, overrides)
    choices = parse_models(None, settings)
    require_searchable(choices, settings)
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
    for choice in choices:
        require_doable(choice, audit.cohort)
    protocol = make_protocol(audit.cohort, settings.folds)
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
        proof=protocol.proof,
        manifest=manifest,
    )
