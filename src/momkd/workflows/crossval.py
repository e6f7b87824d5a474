"""``momkd crossval``: every model on every fold of every seed, resumable, in one run folder."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from momkd.data.cohort import cohort_digest
from momkd.data.fold_proof import Proof
from momkd.data.graph import compiled_search
from momkd.data.label_notes import target_notes
from momkd.errors import ConfigError, DataError
from momkd.fitting.kernels import kernels_of_fit
from momkd.models.table import MODELS
from momkd.models.tabular import TABULAR
from momkd.storage import lock_folder, require_inside
from momkd.types import Cohort
from momkd.workflows.audit import AuditedCohort, audit_cohort, require_few_skipped
from momkd.workflows.console import count_files, say
from momkd.workflows.evaluate import evaluate
from momkd.workflows.fold_job import FoldJob
from momkd.workflows.freezing import (
    choose_method,
    describe_study,
    open_own_protocol,
    settle_protocol,
)
from momkd.workflows.frozen_protocol import FrozenProtocol
from momkd.workflows.job_board import job_board
from momkd.workflows.protocol import Protocol, keep_folds, make_protocol
from momkd.workflows.run_folder import (
    claim_config,
    gather_predictions,
    read_run,
    write_manifest_of_run,
)
from momkd.workflows.searching import describe_search, require_searchable
from momkd.workflows.settings import ModelChoice, Settings, load_settings, parse_models
from momkd.workflows.sides import embeddings_used
from momkd.workflows.tables import make_table
from momkd.workflows.tabular_job import require_doable
from momkd.workflows.team import run_jobs_together, tell_processes
from momkd.workflows.workers import count_workers, run_jobs


def crossval(
    config: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    model: str | None = None,
    folds: int | None = None,
    seeds: int = 1,
    workers: int | None = None,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    site_preserved: bool = False,
    paired_only: bool = False,
    controls: bool = False,
    method: str | None = None,
    freeze: bool = False,
    search: int | None = None,
) -> Path:
    """Cross-validate one or more models on one cohort.

    Parameters
    ----------
    config
        One or more YAML files; later ones override earlier ones.
    output
        Run folder; the same call goes on with an interrupted run.
    model
        ``momkd``, ``momkd:code,abmil``, ``momkd+shuffled,rna_logistic`` or ``all``; default is the
        configuration's.
    folds
        Number of folds, instead of ``folds.n``.
    seeds
        Repeats; each has its own split and its own start, from ``folds.seed`` upwards.
    workers
        Processes; default within the cores and the free memory.
    set_
        ``key.path=value`` overrides.
    max_skip
        Share of slides that may be skipped at their door without exit code 4.
    site_preserved, paired_only
        Set ``folds.site_preserved`` and ``data.paired_only``.
    controls
        Run the controls of every model that learns from RNA beside it.
    method
        The model that ``momkd compare`` will test against the others, named before anything is
        tested; default ``momkd``, or the first.
    freeze
        Stop once the protocol is frozen; the same call without it trains.
    search
        Sets ``search.trials``: trials on the training and validation side of each fold.

    Returns
    -------
    Path
        The run folder, with ``predictions.csv``, ``metrics.json`` and ``report.html``.

    Raises
    ------
    MomkdError
        Any refusal; see the exit codes in docs/formats.md.
    """
    files = [config] if isinstance(config, str | Path) else list(config)
    overrides = [*set_, *([] if folds is None else [f"folds.n={folds}"])]
    overrides += ["folds.site_preserved=true"] if site_preserved else []
    overrides += ["data.paired_only=true"] if paired_only else []
    overrides += [] if search is None else [f"search.trials={search}"]
    settings = load_settings([Path(f) for f in files], overrides)
    choices = parse_models(model, settings, controls=controls)
    require_searchable(choices, settings)
    named = choose_method(choices, settings, method)
    folder = Path(output)
    with lock_folder(folder):
        claim_config(folder, settings)
        _require_no_predictor(folder)
        before = open_own_protocol(folder)
        _require_same_embeddings(folder, settings)
        audited = _audit(folder, settings, workers)
        cohort = audited.audit.cohort
        for choice in choices:
            require_doable(choice, cohort)
        protocol = make_protocol(cohort, settings.folds, seeds)
        study = describe_study(folder, audited, protocol, settings, choices, method=named)
        frozen = settle_protocol(folder, before, study, method=method)
        audited.audit.write(folder)
        keep_folds(folder / "folds.csv", protocol, cohort, settings.folds)
        show_proof(protocol.proof)
        jobs = _plan_jobs(folder, choices, protocol, frozen)
        for job in jobs:
            require_inside(folder, job.folder)
        manifest = {
            **_describe_plan(folder, choices, jobs, frozen),
            **describe_cohort(audited, protocol, settings),
            "kernels": tell_kernels(choices, settings),
        }
        write_manifest_of_run(folder, manifest)
        if freeze:
            return folder
        run_open_jobs(jobs, cohort, settings, workers)
        done = _require_done(folder, manifest["jobs"])
        manifest["training_notes"] = tell_training_notes(done)
        write_manifest_of_run(folder, manifest)
        gather_predictions(folder, done)
        evaluate(folder)
    require_few_skipped(audited.audit.n_skipped, audited.audit.n_listed, max_skip)
    return folder


def _plan_jobs(
    folder: Path,
    choices: Sequence[ModelChoice],
    protocol: Protocol,
    frozen: FrozenProtocol | None,
) -> list[FoldJob]:
    """Give a training for every model and fold, each with a folder of its own."""
    return [
        FoldJob(
            choice=choice,
            seed=fold.seed,
            fold=fold,
            folder=folder / choice.label / f"seed-{fold.seed}" / f"fold-{fold.index}",
            protocol=None if frozen is None else frozen.sha256,
        )
        for choice in choices
        for fold in protocol.folds
    ]


def _describe_plan(
    folder: Path,
    choices: Sequence[ModelChoice],
    jobs: Sequence[FoldJob],
    frozen: FrozenProtocol | None,
) -> dict[str, Any]:
    """Give what ``run.json`` says of models, trainings (earlier calls' too) and the protocol."""
    models = _with_earlier(folder, "models", [c.label for c in choices])
    places = [str(j.folder.relative_to(folder)) for j in jobs]
    return {
        "models": models,
        "not_served": [name for name in models if name in TABULAR],
        "model_notes": [TABULAR[name].note for name in models if name in TABULAR],
        "jobs": _with_earlier(folder, "jobs", places),
        **({} if frozen is None else {"protocol": frozen.record()}),
    }


def run_open_jobs(
    jobs: Sequence[FoldJob], cohort: Cohort, settings: Settings, workers: int | None
) -> None:
    """Run the jobs that are not done yet."""
    todo = [j for j in jobs if not (j.folder / "done.json").exists()]
    if not todo:
        return
    together = settings.fit.devices > 1 and not all(job.choice.is_tabular for job in todo)
    n_workers = 1 if together else count_workers(len(todo), workers, settings.data.cache_gib)
    say(f"{len(todo)} of {len(jobs)} trainings to do, {n_workers} at a time")
    if settings.search.trials:
        say(f"before each of them {settings.search.trials} trials on its inner split")
    if together:
        tell_processes(settings.fit)
    with job_board(len(jobs), len(jobs) - len(todo)) as board:
        if together:
            run_jobs_together(todo, cohort, settings, watcher=board)
        else:
            run_jobs(todo, cohort, settings, n_workers=n_workers, watcher=board)


def describe_cohort(
    audited: AuditedCohort, protocol: Protocol, settings: Settings
) -> dict[str, Any]:
    """Give what ``run.json`` says of the data."""
    cohort = audited.audit.cohort
    return {
        "task": cohort.task,
        "class_names": list(cohort.class_names),
        "cohort": cohort_digest(cohort),
        "folds": list(protocol.proof.rows),
        "proof": protocol.proof.as_json(),
        "counts": [{"what": k, "n": n} for k, n in audited.audit.counts().items()],
        "notes": list(audited.notes),
        "target_notes": list(target_notes(settings.data.target)),
        "settings": settings.shared_digest(),
        "embeddings": embeddings_used(settings),
        **describe_search(settings),
    }


def tell_kernels(choices: Sequence[ModelChoice], settings: Settings) -> str:
    """Say once what graph attention will be computed with; compile it before workers start."""
    compiled_search()
    if not any(not c.is_tabular and MODELS[c.name].has_kernels for c in choices):
        return ""
    fit = settings.fit
    chosen = kernels_of_fit(fit.kernels, fit.precision, fit.device).say()
    say(chosen)
    return chosen


def tell_training_notes(folders: Sequence[Path]) -> list[str]:
    """Say what trainings noted (fewer genes than asked, say), each note once with its count."""
    counts: Counter[str] = Counter()
    for folder in folders:
        done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        counts.update(done.get("notes", []))
    told = [f"{note} ({n} of {len(folders)} trainings)" for note, n in counts.most_common(10)]
    for note in told:
        say(note)
    return told


def show_proof(proof: Proof) -> None:
    """Say what was verified of the folds; the table is that of the first seed."""
    say(proof.protocol)
    for statement in proof.statements:
        say(f"  {statement}")
    say(make_table([r for r in proof.rows if r["seed"] == proof.rows[0]["seed"]]))


def _require_no_predictor(folder: Path) -> None:
    """Refuse the folder of ``momkd train``: its predictor would be served in the folds' place."""
    if (folder / "run.json").exists() and read_run(folder).get("jobs") == []:
        what = "holds what momkd train wrote"
        raise ConfigError.of("T14", str(folder), what, "choose another -o")


def _require_same_embeddings(folder: Path, settings: Settings) -> None:
    """Refuse to go on with a run on embeddings of another precision than it began with."""
    now = embeddings_used(settings)
    before = read_run(folder).get("embeddings", now) if (folder / "run.json").exists() else now
    if before != now:
        what = f"was begun with embeddings {before}, and they are now {now}"
        remedy = "choose another -o, or pack with the precision it began with"
        raise ConfigError.of("T14", str(folder), what, remedy)


def _audit(folder: Path, settings: Settings, workers: int | None) -> AuditedCohort:
    with count_files("examining feature files") as counter:
        audited = audit_cohort(
            settings.data,
            manifest=folder / "features.csv",
            n_workers=workers or 1,
            on_start=counter.start,
            on_file=counter.advance,
        )
    for note in audited.notes:
        say(note)
    return audited


def _require_done(folder: Path, jobs: Sequence[str]) -> list[Path]:
    """Give the folders of all trainings of a run, this call's and earlier ones', once all are done.

    Raises
    ------
    DataError
        P14 some are not: no model is left out of the scores.
    """
    still = Counter(j.split("/")[0] for j in jobs if not (folder / j / "done.json").exists())
    if still:
        left = ", ".join(f"{name} {n}" for name, n in still.items())
        what = f"is not finished: trainings begun earlier are open ({left}), so nothing is scored"
        remedy = f"run it with --model {','.join(still)} too, and as many --seeds as before"
        raise DataError.of("P14", str(folder), what, remedy)
    return [folder / job for job in jobs]


def _with_earlier(folder: Path, key: str, now: Sequence[str]) -> list[str]:
    earlier = read_run(folder)[key] if (folder / "run.json").exists() else []
    return list(dict.fromkeys([*earlier, *now]))
