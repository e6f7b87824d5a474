"""Which memory is looked at: the one of a predictor, or of one training of a run.

The memories of two trainings are two sets of slots: each starts from its own k-means, and slot 3 of
one has nothing to do with slot 3 of another. So one training is shown at a time, the first unless
another is named: neither the best nor the most telling one, which would be a choice by the result.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from momkd.errors import ConfigError, DataError, ModelError
from momkd.models.base import BagClassifier
from momkd.models.momkd import MoMKD
from momkd.predictor import Card, Predictor, from_pretrained, load_predictor
from momkd.workflows.run_folder import read_run


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedMemory:
    """A trained model with a memory, and where it comes from.

    Parameters
    ----------
    model, card
        The model, and what it was made for.
    predictor
        Both together, as they serve.
    name
        The training inside its run, or the predictor's folder.
    choice
        How it came to be this one, in a sentence.
    training
        Folder of the training: ``history.csv`` and, where RNA taught, ``panel.json``; None where
        there is the predictor alone.
    run
        Folder of the run: ``run.json``, ``config.yaml``, ``cohort.csv``.
    """

    model: MoMKD
    predictor: Predictor
    name: str
    choice: str
    training: Path | None = None
    run: Path | None = None

    @property
    def card(self) -> Card:
        """What the predictor says of itself."""
        return self.predictor.card


def find_memory(source: Path, training: str | None = None) -> TrainedMemory:
    """Find the memory of a run, of a training in it, or of a predictor.

    Parameters
    ----------
    source
        What ``momkd crossval``, ``momkd train`` or ``momkd export --to hub`` wrote, or one
        predictor's folder.
    training
        One training of a run, such as ``momkd/seed-0/fold-2``; the first by default.

    Raises
    ------
    DataError
        P13 neither a run nor a predictor, or a ``run.json`` that names a training outside.
    ModelError
        P10 the training has no predictor yet; P15 no model with a memory; C codes.
    ConfigError
        G07 the run has no such training.
    """
    if (source / "run.json").exists() and not (source / "predictor").exists():
        return _of_run(source, training)
    if training is not None:
        what = f"got {training!r}, and {source.name} is no run of several trainings"
        raise ConfigError.of("G07", "--training", what, "leave it out")
    if (source / "predictor" / "config.json").exists():
        return _of_folder(source / "predictor", source, "the only training of its folder")
    if not (source / "config.json").exists():
        what = "neither a run (run.json) nor a predictor (config.json)"
        raise DataError.of("P13", str(source), what, "give what crossval or train wrote")
    members = from_pretrained(source).members
    if len(members) > 1:
        choice = f"the first of {len(members)} predictors that were exported together"
        return _memory(members[0], source.name, choice, None)
    parent = source.parent if (source.parent / "done.json").exists() else None
    return _memory(members[0], source.name, "the predictor that was named", parent)


def _of_run(run: Path, training: str | None) -> TrainedMemory:
    jobs = [str(job) for job in read_run(run).get("jobs", ())]
    root = run.resolve()
    if outside := [job for job in jobs if not (run / job).resolve().is_relative_to(root)]:
        what = f"names a training outside the run: {outside[0]!r}"
        raise DataError.of("P13", str(run / "run.json"), what, "mend run.json")
    fit = [job for job in jobs if _model_of(run / job) == "momkd"]
    if training is not None and training not in fit:
        known = ", ".join(fit[:3]) + (" ..." if len(fit) > 3 else "")
        what = f"got {training!r}, and the run's trainings with a memory are {known or 'none'}"
        raise ConfigError.of("G07", "--training", what, "name one of these")
    if not fit:
        still = [job for job in jobs if job.split("/")[0].split("-")[0].split("+")[0] == "momkd"]
        if still:
            what = f"none of its {len(still)} trainings of momkd has a predictor yet"
            raise ModelError.of("P10", str(run), what, "run momkd crossval again, it goes on")
        what = "has no model with a memory"
        raise ModelError.of("P15", str(run), what, "give a run of momkd")
    job = training or fit[0]
    choice = "named by the user" if training else "the first by seed and fold; none was named"
    choice += f"; the run has {len(fit)} trainings with a memory of their own, and slots of two"
    choice += " trainings cannot be compared by their numbers"
    return _of_folder(run / job / "predictor", run / job, choice, name=job)


def _model_of(job: Path) -> str | None:
    try:
        content = json.loads((job / "predictor" / "config.json").read_text(encoding="utf-8"))
        return str(content["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_folder(folder: Path, training: Path, choice: str, name: str | None = None) -> TrainedMemory:
    return _memory(load_predictor(folder), name or training.name, choice, training)


def _memory(predictor: Predictor, name: str, choice: str, training: Path | None) -> TrainedMemory:
    model = predictor.model
    if not _has_memory(model):
        what = f"is a predictor of {predictor.card.model}, which has no memory"
        raise ModelError.of("P15", name, what, "give a predictor of momkd")
    run = None
    if training is not None:
        here = training.resolve()
        run = next((p for p in (here, *here.parents[:3]) if (p / "run.json").is_file()), None)
    return TrainedMemory(
        model=model, predictor=predictor, name=name, choice=choice, training=training, run=run
    )


def _has_memory(model: BagClassifier) -> TypeGuard[MoMKD]:
    return isinstance(model, MoMKD)
