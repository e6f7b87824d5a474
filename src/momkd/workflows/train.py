"""``momkd train``: one final predictor on every case, a share held out to decide and calibrate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momkd.data.cohort import cohort_digest, rna_digest
from momkd.data.fold_proof import prove_folds
from momkd.data.folds import hold_out
from momkd.errors import ConfigError
from momkd.models.tabular import TABULAR
from momkd.storage import canonical_json, digest_bytes, lock_folder
from momkd.types import Cohort
from momkd.workflows.audit import audit_cohort, require_few_skipped
from momkd.workflows.console import count_files, say
from momkd.workflows.crossval import (
    describe_cohort,
    run_open_jobs,
    tell_kernels,
    tell_training_notes,
)
from momkd.workflows.fold_job import FoldJob, require_trainable
from momkd.workflows.protocol import Protocol
from momkd.workflows.run_folder import claim_config, read_run, write_manifest_of_run
from momkd.workflows.searching import require_searchable
from momkd.workflows.settings import ModelChoice, load_settings, parse_models

_TRAINING = {
    "model": "another model",
    "options": "other options of the model",
    "seed": "another seed",
    "cohort": "other cases, labels or slides",
    "rna": "other RNA",
}


def train(
    config: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    model: str | None = None,
    seed: int = 0,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    workers: int = 1,
    devices: int | None = None,
) -> Path:
    """Train the predictor that will be served, on all cases of a cohort.

    ``folds.val_fraction`` of the cases with a slide is held out to choose the epoch, the
    thresholds and the calibration; nothing is left to estimate accuracy with: that is what
    ``crossval`` is for. ``devices`` sets ``fit.devices``.

    Returns
    -------
    Path
        The predictor's folder.

    Raises
    ------
    MomkdError
        Any refusal, as ``crossval``.
    """
    files = [config] if isinstance(config, str | Path) else list(config)
    overrides = [*set_, *([] if devices is None else [f"fit.devices={devices}"])]
    settings = load_settings([Path(f) for f in files], overrides)
    (choice,) = parse_models(model, settings)[:1]
    if choice.is_tabular:
        raise ConfigError.of("G17", "--model", TABULAR[choice.name].note, "choose a slide model")
    require_searchable([choice], settings)
    folder = Path(output)
    with lock_folder(folder):
        claim_config(folder, settings)
        with count_files("examining feature files") as counter:
            audited = audit_cohort(
                settings.data,
                manifest=folder / "features.csv",
                n_workers=workers,
                on_start=counter.start,
                on_file=counter.advance,
            )
        audit = audited.audit
        for note in audited.notes:
            say(note)
        require_trainable(choice, audit.cohort)
        fold = hold_out(audit.cohort, settings.folds, seed)
        training = _describe_training(choice, seed, audit.cohort)
        _require_same_training(folder, training)
        audit.write(folder)
        job = FoldJob(choice=choice, seed=seed, fold=fold, folder=folder)
        manifest: dict[str, Any] = {"models": [choice.label], "jobs": [], "training": training}
        proof = prove_folds([fold], audit.cohort, settings.folds)
        protocol = Protocol(folds=(fold,), proof=proof)
        manifest |= describe_cohort(audited, protocol, settings)
        manifest["kernels"] = tell_kernels([choice], settings)
        write_manifest_of_run(folder, manifest)
        run_open_jobs([job], audit.cohort, settings, 1)
        manifest["training_notes"] = tell_training_notes([folder])
        write_manifest_of_run(folder, manifest)
    require_few_skipped(audit.n_skipped, audit.n_listed, max_skip)
    return folder / "predictor"


def _describe_training(choice: ModelChoice, seed: int, cohort: Cohort) -> dict[str, Any]:
    """Give what a predictor comes of, beside the settings of its folder."""
    return {
        "model": choice.label,
        "options": digest_bytes(canonical_json(choice.resolved()).encode()),
        "seed": seed,
        "cohort": cohort_digest(cohort),
        "rna": rna_digest(cohort),
    }


def _require_same_training(folder: Path, training: Mapping[str, Any]) -> None:
    """Refuse to take what lies in a folder for the predictor that is asked for."""
    if not (folder / "run.json").exists():
        return
    run = read_run(folder)
    if run.get("jobs"):
        raise ConfigError.of("T14", str(folder), "holds a cross-validation", "choose another -o")
    # before this was recorded, the manifest said of it what it still says
    of_old = {"model": ", ".join(run.get("models", ())), "cohort": run.get("cohort")}
    before = run.get("training", of_old)
    told = [
        f"{words} ({before[name]}, now {training[name]})" if name in ("model", "seed") else words
        for name, words in _TRAINING.items()
        if name in before
        and before[name] != training[name]
        # another model has other options by itself
        and (name != "options" or before["model"] == training["model"])
    ]
    if told:
        what = f"holds a training of {', '.join(told)}"
        raise ConfigError.of("T14", str(folder), what, "choose another -o")
