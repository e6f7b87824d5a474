"""A run folder as a cross-validation leaves it, made at once: nothing was trained for it."""

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

N_FOLDS = 3


def write_run(
    folder: Path,
    models: Sequence[str] = ("momkd", "abmil"),
    *,
    n: int = 90,
    seeds: int = 2,
    n_folds: int = N_FOLDS,
    epochs: int = 4,
    word: str = "HER2",
    open_jobs: Sequence[str] = (),
    sites: Sequence[str] = ("A1", "B2"),
) -> Path:
    """Write a run of ``n`` cases with a slide, and one that has RNA alone.

    Parameters
    ----------
    word
        Stands wherever a user's word may stand: label, classes, cases, sites, reasons, notes.
    open_jobs
        Trainings that are not done; the run has no ``predictions.csv`` then.
    """
    folder.mkdir()
    y = (np.arange(n) % 3 == 0).astype(int)
    cases = [f"{word}-c{i:03d}" for i in range(n)]
    site = [sites[i % len(sites)] if sites else "" for i in range(n)]
    names = (f"no {word}", word)
    jobs, rows, folds, sides = [], [], [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(n)
        parts = np.array_split(order, n_folds)
        for fold, test in enumerate(parts):
            others = [i for i in order if i not in set(test)]
            val, train = others[:12], others[12:]
            for side, members in (("train", train), ("val", val), ("test", test)):
                folds += [(seed, fold, cases[i], side, "d") for i in members]
                sides.append(_side(seed, fold, side, members, y, site, word))
    for model, seed in itertools.product(models, range(seeds)):
        order = np.random.default_rng(seed).permutation(n)
        for fold, test in enumerate(np.array_split(order, n_folds)):
            job = f"{model}/seed-{seed}/fold-{fold}"
            jobs.append(job)
            rng = np.random.default_rng([len(model), seed, fold])
            z = rng.normal(size=len(test)) + (1.5 if model == "momkd" else 0.7) * y[test]
            p = 1 / (1 + np.exp(-z + 1))
            of_job = [
                (cases[i], f"{cases[i]}-s", fold, "test", model, seed, y[i], 1 - q, q)
                for i, q in zip(test, p, strict=True)
            ]
            rows += of_job
            if job not in open_jobs:
                _write_job(folder / job, of_job, names, model, epochs)
    if not open_jobs:
        _table(rows, names).to_csv(folder / "predictions.csv", index=False)
    columns = ["seed", "fold", "case_id", "split", "cohort"]
    pd.DataFrame(folds, columns=columns).to_csv(folder / "folds.csv", index=False)
    _write_cohort(folder, cases, y, site, names, word)
    proof = {
        "protocol": f"{n_folds} folds by case, stratified by label; {seeds} seeds",
        "statements": [
            "no case and no slide file (SHA-256) stands on two sides of a fold",
            "sites cross: of 2 sites on a test side 2 also train",
        ],
        "sites": None,
        "digest": "f" * 64,
    }
    manifest = {
        "task": word,
        "class_names": names,
        "models": list(models),
        "jobs": jobs,
        "notes": [f"RNA: holds genes that define the label ({word})"],
        "target_notes": [word],
        "training_notes": [word],
        "counts": _counts(n, int(y.sum()), names),
        "folds": sides,
        "proof": proof,
        "machine": {"momkd": "0", "system": word},
        "started": "2026-01-01T00:00:00",
        "cohort": "c" * 64,
        "settings": "d" * 64,
    }
    (folder / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _side(
    seed: int, fold: int, side: str, members: Any, y: Any, site: Sequence[str], word: str
) -> dict[str, Any]:
    n_sites = len({site[i] for i in members})
    return {
        "seed": seed,
        "fold": fold,
        "side": side,
        "cases": len(members),
        "slides": len(members),
        "positives": int(sum(y[i] for i in members)),
        "rna": len(members),
        "sites": n_sites,
        "sites_in_train": n_sites,
        "largest": word,
        "digest": "abc",
    }


def _write_job(
    folder: Path, rows: Sequence[tuple[Any, ...]], names: tuple[str, str], model: str, epochs: int
) -> None:
    folder.mkdir(parents=True)
    _table(rows, names).to_csv(folder / "predictions.csv", index=False)
    done = {"best_epoch": 1, "epochs": epochs, "stop_reason": "patience", "notes": []}
    (folder / "done.json").write_text(json.dumps(done))
    columns = ["epoch", "loss", "val_loss", "val_auroc"]
    has_memory = model == "momkd"
    if has_memory:
        (folder / "panel.json").write_text("{}")
        columns += ["cos_class_means", "active_ratio_0", "perplexity_0", "revived_0"]
        columns += ["active_ratio_1", "perplexity_1", "revived_1"]
    with (folder / "history.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for epoch in range(epochs):
            row = [epoch, 3 / (epoch + 1), 0.7, "" if epoch == 0 else 0.6]
            writer.writerow(row + ([0.5, 1.0, 9 - epoch, 0, 0.8, 4.0, 2] if has_memory else []))


def _table(rows: Sequence[tuple[Any, ...]], names: tuple[str, str]) -> pd.DataFrame:
    head = ["case_id", "slide_id", "fold", "split", "model", "seed", "y_true"]
    table = pd.DataFrame(rows, columns=[*head, *(f"prob_{n}" for n in names)])
    return table.assign(y_pred=(table[f"prob_{names[1]}"] > 0.5).astype(int), threshold=0.5)


def _write_cohort(
    folder: Path,
    cases: Sequence[str],
    y: Any,
    site: Sequence[str],
    names: tuple[str, str],
    word: str,
) -> None:
    cohort = [
        (c, f"{c}-s", f"{c}-s.h5", c, s, label, names[label])
        for c, s, label in zip(cases, site, y, strict=True)
    ]
    cohort.append(("rna-only", "", "", "rna-only", "", 1, names[1]))
    columns = ["case_id", "slide_id", "feature_path", "rna_id", "site", "label", "class_name"]
    pd.DataFrame(cohort, columns=columns).to_csv(folder / "cohort.csv", index=False)
    left = [
        ("case", "x1", "x1", "L01", f"{word} is blank"),
        ("slide", "x1-s", "x1", "L01", f"its case is left out: {word} is blank"),
    ]
    columns = ["kind", "id", "case_id", "code", "reason"]
    pd.DataFrame(left, columns=columns).to_csv(folder / "dropped.csv", index=False)
    text = "data: {features: [/srv/someone/features], clinical: c.csv, rna: null}\n"
    (folder / "config.yaml").write_text(text)


def _counts(n: int, n_positive: int, names: tuple[str, str]) -> list[dict[str, Any]]:
    numbers = {
        "cases listed": n + 2,
        "cases used": n + 1,
        "cases left out": 1,
        "slides listed": n + 1,
        "slides used": n,
        "slides left out": 1,
        "rnas listed": n + 1,
        "rnas used": n + 1,
        "rnas left out": 0,
        "cases with slide and RNA": n,
        "cases with slide only": 0,
        "cases with RNA only": 1,
        f"cases {names[0]}": n - n_positive,
        f"cases {names[1]}": n_positive + 1,
    }
    return [{"what": k, "n": v} for k, v in numbers.items()]
