"""Freezing a protocol: what a run will do is laid down by digest before it tests anything.

What is laid down is gathered from where it is decided (settings, audit, proof of the folds);
nothing is computed a second time. It holds no date and no folder of this machine, so that equal
studies have equal digests.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from momkd.data.cohort import cohort_digest, rna_digest
from momkd.data.label_notes import target_notes
from momkd.errors import IntegrityError
from momkd.evaluation.bayesian import ROPE
from momkd.evaluation.comparison import CORRECTED_T
from momkd.fitting.search import Dimension, Range
from momkd.storage import canonical_json, digest_bytes, write_json
from momkd.types import Cohort
from momkd.workflows.audit import AuditedCohort
from momkd.workflows.console import say
from momkd.workflows.fold_job import THRESHOLD_RULE
from momkd.workflows.frozen_protocol import (
    AMENDMENTS,
    NOT_FROZEN,
    PROTOCOL,
    FrozenProtocol,
    laid_down,
    open_protocol,
    seed_digests,
)
from momkd.workflows.protocol import Protocol
from momkd.workflows.run_folder import differing_keys, read_run
from momkd.workflows.searching import space_of
from momkd.workflows.settings import ModelChoice, Settings, parse_models

_FORMAT_VERSION = 1
_COHORT_PARTS = {
    "sha256": "cases, labels or slides",
    "sites_sha256": "sites of the cases",
    "rna_sha256": "RNA of the cases",
    "covariates_sha256": "covariates of the cases",
}
_ENDPOINT = {
    "metric": "auroc",
    "of": "cases, out of fold; mean over folds and seeds",
    "interval": "95 %, case-level bootstrap",
}
_RULES = (
    "no model is taken out after freezing; one that is added is an amendment",
    "a model has figures only when all its trainings are done; a training that fails stops the run",
    "test cases are read once a training, after its decision is on disk",
)


def open_own_protocol(folder: Path) -> FrozenProtocol | None:
    """Open the protocol of the run that a command is about to begin or to go on with.

    Raises
    ------
    IntegrityError
        As :func:`~momkd.workflows.frozen_protocol.open_protocol`.
    """
    manifest = read_run(folder) if (folder / "run.json").exists() else None
    return open_protocol(folder, manifest, unrecorded=True)


def describe_study(
    folder: Path,
    audited: AuditedCohort,
    protocol: Protocol,
    settings: Settings,
    choices: Sequence[ModelChoice],
    *,
    method: str,
) -> dict[str, Any]:
    """Gather what is laid down: the content of ``protocol.json``."""
    audit, target = audited.audit, settings.data.target
    left = Counter((d.kind, d.code, d.reason_class) for d in audit.dropped)
    return {
        "format_version": _FORMAT_VERSION,
        "question": {
            "task": audit.cohort.task,
            "class_names": list(audit.cohort.class_names),
            "labels": target.model_dump(mode="json"),
            "notes": list(target_notes(target)),
        },
        "cohort": {
            "sha256": cohort_digest(audit.cohort),
            "sites_sha256": _sites_digest(audit.cohort),
            "rna_sha256": rna_digest(audit.cohort),
            "covariates_sha256": _covariates_digest(audit.cohort),
            "counts": audit.counts(),
            "left_out": [
                {"kind": kind, "code": code, "reason": reason, "n": n}
                for (kind, code, reason), n in sorted(left.items())
            ],
        },
        "folds": {"how": protocol.proof.protocol, "seeds": seed_digests(protocol.folds)},
        "models": [_describe_model(choice, settings) for choice in choices],
        "decided_on_validation": {
            "epoch": f"best smoothed {settings.fit.select} (smoothing {settings.fit.smoothing}), "
            f"patience {settings.fit.patience} of at most {settings.fit.epochs} epochs",
            "calibration": "temperature and offset",
            "threshold": THRESHOLD_RULE,
            "options": _how_options_are_chosen(settings.search.trials),
        },
        "primary_endpoint": _ENDPOINT,
        "comparison": {
            "method": method,
            "test": CORRECTED_T,
            "adjustment": "Holm, over the comparisons of the method with each other model",
            "rope": ROPE,
        },
        "rules": list(_RULES),
        "configuration": laid_down(folder),
    }


def choose_method(choices: Sequence[ModelChoice], settings: Settings, method: str | None) -> str:
    """Give the label of the model named beforehand: ``momkd`` or the first, unless one is named.

    It may stand in another run that this one will be compared with.

    Raises
    ------
    ConfigError
        G05, G06, G17 no such model.
    """
    labels = [choice.label for choice in choices]
    if method is None:
        return "momkd" if "momkd" in labels else labels[0]
    return method if method in labels else parse_models(method, settings)[0].label


def settle_protocol(
    folder: Path, before: FrozenProtocol | None, study: dict[str, Any], *, method: str | None
) -> FrozenProtocol | None:
    """Freeze a study in its run folder; where one was frozen, add what is new as an amendment.

    Parameters
    ----------
    before
        What :func:`open_own_protocol` gave.
    study
        What :func:`describe_study` gave.
    method
        The model that this call names, if it names one.

    Returns
    -------
    FrozenProtocol or None
        None where test predictions came before any protocol: it would be none.

    Raises
    ------
    IntegrityError
        K17 this call wants another cohort, other folds, other options of a model or another
        method than were frozen.
    """
    if before is None:
        if _has_predictions(folder):
            say(NOT_FROZEN)
            return None
        write_json(folder / PROTOCOL, study)
        frozen = open_protocol(folder, None, unrecorded=True)
        assert frozen is not None
    else:
        _require_same(folder, before, study, method)
        frozen = _amend(folder, before, study)
    if not frozen.frozen:
        frozen = replace(frozen, frozen=time.strftime("%Y-%m-%dT%H:%M:%S"))
        say(f"protocol frozen: SHA-256 {frozen.sha256} ({folder / PROTOCOL})")
    return frozen


def _describe_model(choice: ModelChoice, settings: Settings) -> dict[str, Any]:
    searched = {}
    if settings.search.trials and not choice.is_tabular:
        space = space_of(choice, settings.search)
        searched = {"search_space": {k: _as_plain(v) for k, v in space.items()}}
    return {
        **searched,
        "label": choice.label,
        "name": choice.name,
        "preset": choice.preset,
        "control": choice.control,
        "options": choice.resolved(),
    }


def _how_options_are_chosen(n_trials: int) -> str:
    if not n_trials:
        return "as they stand"
    return (
        f"best of {n_trials} trials, equally many for every model of slides; the first is of the "
        "options as they stand, and one that fails is the worst"
    )


def _as_plain(dimension: Dimension) -> Any:
    return dimension.model_dump(mode="json") if isinstance(dimension, Range) else list(dimension)


def _require_same(
    folder: Path, before: FrozenProtocol, study: dict[str, Any], method: str | None
) -> None:
    """Refuse what is neither as it was frozen nor an addition to it."""

    def refuse(what: str) -> None:
        remedy = "a frozen protocol is not changed: choose another -o, or the old settings"
        raise IntegrityError.of("K17", str(folder / PROTOCOL), what, remedy)

    for key, which in _COHORT_PARTS.items():
        now = study["cohort"][key]
        if before.content["cohort"].get(key, now) != now:  # what was not frozen then is not held
            refuse(f"is of another cohort: {which} differ")
    for seed, digest in study["folds"]["seeds"].items():
        if before.folds.get(int(seed), digest) != digest:
            refuse(f"has other folds for seed {seed} than this command makes")
    known = before.models
    for entry in study["models"]:
        old = known.get(entry["label"])
        # an option that did not exist then cannot have been frozen
        new = None if old is None else _as_far_as(old, entry)
        keys = [] if old is None else differing_keys(dict(old), new)
        if keys:
            refuse(f"has {entry['label']} with other options (differs in {', '.join(keys[:5])})")
    wanted = study["comparison"]["method"]
    if method is not None and wanted != before.method:
        refuse(f"names {before.method} as the method, this command names {wanted}")


def _as_far_as(old: Any, new: Any) -> Any:
    """Give what ``new`` says of the keys that ``old`` has."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: _as_far_as(old[key], new[key]) for key in old if key in new}
    return new


def _amend(folder: Path, before: FrozenProtocol, study: dict[str, Any]) -> FrozenProtocol:
    """Record models and seeds that the protocol does not have yet, in an entry of their own."""
    models = [m for m in study["models"] if m["label"] not in before.models]
    seeds = {s: d for s, d in study["folds"]["seeds"].items() if int(s) not in before.folds}
    if not models and not seeds:
        return before
    is_late = _has_predictions(folder)
    parts = [f"models added: {', '.join(m['label'] for m in models)}"] if models else []
    parts += [f"seeds added: {', '.join(seeds)}"] if seeds else []
    known = "test predictions existed by then" if is_late else "no test prediction existed yet"
    entry = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "what": f"{'; '.join(parts)} ({known})",
        "models": models,
        "seeds": seeds,
        "after_test_predictions": is_late,
        "previous": before.head,
    }
    amendments = (*before.amendments, entry)
    write_json(folder / AMENDMENTS, list(amendments))
    say(f"protocol amended ({len(amendments)}): {entry['what']}")
    return replace(before, amendments=amendments)


def _has_predictions(folder: Path) -> bool:
    """Whether any training of the run has left predictions, of test cases too."""
    return next(folder.glob("*/seed-*/fold-*/predictions.csv"), None) is not None


def _sites_digest(cohort: Cohort) -> str:
    sites = sorted([c.case_id, c.site or ""] for c in cohort.cases)
    return digest_bytes(canonical_json(sites).encode())


def _covariates_digest(cohort: Cohort) -> str | None:
    found = cohort.covariates
    if found is None:
        return None
    values = {c.case_id: list(found.values.get(c.case_id, ())) for c in cohort.cases}
    return digest_bytes(canonical_json([list(found.names), values]).encode())
