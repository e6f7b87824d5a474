"""What a run says of its models: how they were built, trained, chosen, and how they are used."""

from typing import Any

from momkd.serving.licence import encoder_licence
from momkd.workflows.guidelines.answers import Answer, Answerer, Found, Gap
from momkd.workflows.guidelines.facts import RunFacts

_FIT = (
    *("epochs", "patience", "optimizer", "lr", "weight_decay", "batch_size", "clip_norm"),
    *("schedule", "precision", "balanced"),
)
_NO_CARD = "a predictor whose card can be read"


def intended_use(run: RunFacts) -> Found:
    """Say what a predictor says it is good for."""
    for card in run.cards.values():
        return Answer(text=card.limits, where="predictor/config.json, limits")
    return Gap(lacks=_NO_CARD)


def models(run: RunFacts) -> Found:
    """Say which models."""
    names = ", ".join(map(str, run.manifest["models"]))
    text = f"Multiple-instance learning on tile embeddings, and baselines: {names}"
    return Answer(text=text, where="run.json, models; equations in the pages of docs/models")


def full_model(run: RunFacts) -> Found:
    """Say where the whole model is."""
    if not run.cards:
        return Gap(lacks=_NO_CARD)
    parts = [
        f"{name}: options {_options(card.options)}"
        if card.options
        else f"{name}: no options of its own"
        for name, card in run.cards.items()
    ]
    text = "Weights and complete options of each fold are kept; " + "; ".join(parts)
    return Answer(text=text, where="predictor/ of each training (config.json, model.safetensors)")


def start(run: RunFacts) -> Found:
    """Say how parameters begin."""
    seeds = sorted({int(row["seed"]) for row in run.manifest["folds"]})
    if not seeds:
        return Gap(lacks="folds with seeds")
    text = f"Parameters are drawn at random from seed {', '.join(map(str, seeds))} and the fold"
    slots = {n: c.options for n, c in run.cards.items() if "n_slots" in c.options}
    of_rna = [n for n, options in slots.items() if options.get("teaching") == "programmes"]
    of_tiles = [n for n in slots if n not in of_rna]
    if of_tiles:
        text += f"; the memory of {', '.join(of_tiles)} begins at k-means of training tiles"
    if of_rna:
        text += f"; the memory of {', '.join(of_rna)} begins at axes, poles of RNA's components"
    return Answer(text=text + "; the encoder's weights are fixed", where="folds.csv; config.yaml")


def training(run: RunFacts) -> Found:
    """Say how models were trained."""
    fit = run.setting("fit")
    if not isinstance(fit, dict):
        return Gap(lacks="a block fit in config.yaml")
    told = ", ".join(f"{key} {fit[key]}" for key in _FIT if key in fit)
    notes = [str(n) for n in run.manifest.get("training_notes", ())]
    trials = run.setting("search", "trials")
    chosen = (
        f"of {trials} trials of options a fold and model the best on that fold's validation side"
        if trials
        else "hyper-parameters were fixed for the whole run"
    )
    text = f"Trained with {told}; {chosen}"
    return Answer(text="; ".join([text, *notes]), where="config.yaml, fit; history.csv")


def selection(run: RunFacts) -> Found:
    """Say how the final state was chosen."""
    score = {"auroc": "AUROC", "loss": "log-likelihood"}.get(str(run.setting("fit", "select")))
    text = (
        f"Of each training the epoch with the best smoothed validation {score or 'score'} is kept; "
        "calibration and threshold are fitted on validation too, all saved before the test side "
        "is opened"
    )
    return Answer(text=text, where="done.json and history.csv of each training")


def ensembles(run: RunFacts) -> Found:
    """Say whether models are averaged."""
    text = (
        "None in the figures: each test case is scored by the model of its fold (probabilities of "
        "a case's slides are averaged). momkd predict averages the fold models"
    )
    return Answer(text=text, where="predictions.csv")


def imbalance(run: RunFacts) -> Found:
    """Say what is done about unequal classes."""
    balanced = run.setting("fit", "balanced")
    if balanced is None:
        return Gap(lacks="fit.balanced in config.yaml")
    text = (
        "Cases of both classes are drawn equally often in training; an offset in the calibration, "
        "fitted on validation, takes the shift out of the probabilities"
        if balanced
        else "No method against class imbalance was used (fit.balanced: false)"
    )
    return Answer(text=text, where="config.yaml, fit.balanced")


def calibration(run: RunFacts) -> Found:
    """Say how logits become probabilities."""
    text = (
        "Probabilities are calibrated by a temperature and an offset, fitted to the validation "
        "cases of each fold by penalised maximum likelihood"
    )
    shown = [f"{n}: {c.temperature:.2f} and {c.offset:+.2f}" for n, c in run.cards.items()]
    if shown:
        text += f" (first fold: {'; '.join(shown)})"
    return Answer(text=text, where="predictor/config.json; docs/statistics.md")


def output(run: RunFacts) -> Found:
    """Say what comes out, and how it is cut."""
    if not run.cards:
        return Gap(lacks=_NO_CARD)
    card = next(iter(run.cards.values()))
    cuts = "" if run.cases is None else _cuts(run)
    text = (
        f"Calibrated probabilities of {' and '.join(card.class_names)}; called "
        f"{card.class_names[-1]} at or above a threshold by the rule {card.threshold_rule}, chosen "
        f"on validation{cuts}"
    )
    return Answer(text=text, where="predictor/config.json, thresholds; predictions.csv")


def scoring(run: RunFacts) -> Found:
    """Say how test predictions were made."""
    if run.cases is None:
        return Gap(lacks="test predictions")
    text = (
        "By the saved predictor of the fold, through the code that serves it (momkd predict): test "
        "cases had no part in it"
    )
    return Answer(text=text, where="predictions.csv; predictor/ of each training")


def updating(run: RunFacts) -> Found:
    """Say whether a model was changed after evaluation."""
    text = "None: no model was changed or recalibrated after its test side was opened"
    return Answer(text=text, where="done.json of each training")


def slide_alone(run: RunFacts) -> Found:
    """Say that the slide is enough at prediction."""
    unserved = ", ".join(map(str, run.manifest.get("not_served", ())))
    text = "A predictor reads the slide alone; it has no part that takes RNA"
    if unserved:
        text += f"; {unserved} read tables and are not served"
    return Answer(text=text, where="predictor/model.safetensors; run.json, not_served")


def bad_input(run: RunFacts) -> Found:
    """Say what happens to unfit input at use."""
    text = (
        "Input of another encoder, tile side or resolution than in training is refused, as is a "
        "damaged file; a slide whose embeddings lie far from those of training is flagged"
    )
    flags = [name for name, card in run.cards.items() if card.embedding_range is not None]
    text += f" (limits recorded for {', '.join(flags)})" if flags else ""
    return Answer(text=text, where="predictor/config.json, embedding_range; docs/formats.md")


def interaction(run: RunFacts) -> Found:
    """Say what a user does."""
    text = (
        "A user names a slide or its feature file and the predictor; tissue and tiles are found "
        "without interaction, and no RNA or label is needed"
    )
    return Answer(text=text, where="momkd predict; docs/slides.md")


def software(run: RunFacts) -> Found:
    """Give the versions."""
    machine = run.manifest["machine"]
    told = ", ".join(f"{key} {value}" for key, value in sorted(machine.items()))
    kernels = run.manifest.get("kernels")
    return Answer(
        text="; ".join([told, *([str(kernels)] if kernels else [])]), where="run.json, machine"
    )


def code(run: RunFacts) -> Found:
    """Say which code."""
    version = run.manifest["machine"].get("momkd", "of unknown version")
    text = (
        f"momkd {version} (Apache-2.0); config.yaml of the run, given to momkd crossval, repeats it"
    )
    return Answer(text=text, where="config.yaml; run.json")


def digests(run: RunFacts) -> Found:
    """Say what proves what was run."""
    proof = run.manifest.get("proof") or {}
    named = (
        ("cohort", run.manifest.get("cohort")),
        ("settings", run.manifest.get("settings")),
        ("folds", proof.get("digest")),
    )
    told = [f"{name} {value[:12]}" for name, value in named if value]
    if not told:
        return Gap(lacks="digests")
    text = f"Started {run.manifest['started']}; SHA-256 of {', '.join(told)}"
    return Answer(text=text, where="run.json")


def availability(run: RunFacts) -> Found:
    """Say what may be passed on."""
    if not run.cards:
        return Gap(lacks=_NO_CARD)
    encoder = next(iter(run.cards.values())).encoder
    terms = encoder_licence(encoder) or "terms that are not known here"
    text = (
        "momkd export writes the models for others; they can be no freer than their encoder "
        f"({encoder or 'unknown'}: {terms})"
    )
    return Answer(text=text, where="docs/export.md")


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _cuts(run: RunFacts) -> str:
    assert run.cases is not None
    spans = []
    for name, part in run.cases.groupby("model", sort=False):
        low, high = float(part["threshold"].min()), float(part["threshold"].max())
        spans.append(f"{name} {low:.3f} to {high:.3f}")
    return f" (over folds: {'; '.join(spans)})"


ANSWERS: dict[str, Answerer] = {
    one.__name__: one
    for one in (
        *(intended_use, models, full_model, start, training, selection, ensembles, imbalance),
        *(calibration, output, scoring, updating, slide_alone, bad_input, interaction, software),
        *(code, digests, availability),
    )
}
