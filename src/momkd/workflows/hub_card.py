"""The model card of an exported model: front matter for the Hub, and a page for people.

All text that came from a user is escaped: in YAML by its writer, in Markdown by :func:`plain`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from momkd.serving.card import Card, describe_tile, licence_of, plain
from momkd.serving.licence import encoder_licence, encoder_source
from momkd.workflows.export_source import ExportSource, Study
from momkd.workflows.tables import with_interval

# figure -> what the Hub calls it
_HUB_METRICS = {
    "auroc": "roc_auc",
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "brier": "brier_score",
}


def write_card(source: ExportSource, digests: Mapping[str, str]) -> str:
    """Write ``README.md``.

    Parameters
    ----------
    source
        The model, and what its run says.
    digests
        File name -> SHA-256 of what lies beside it.
    """
    cards = [member.card for member in source.ensemble.members]
    front = yaml.safe_dump(_front_matter(source), sort_keys=False, width=10_000)
    parts = [
        f"---\n{front}---",
        f"# {plain(cards[0].task)} from slides: {plain(source.label)}",
        *_predicts(source),
        *_data(source.study),
        *_metrics(source),
        *_decisions(source),
        *_use(cards[0]),
        *_licence(cards[0]),
        *_origin(source, digests),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(source: ExportSource) -> dict[str, Any]:
    card = source.ensemble.card
    licence, words = licence_of(card), encoder_licence(card.encoder)
    front: dict[str, Any] = {"license": licence}
    if licence == "other":
        front["license_name"] = words or "unknown-inherited-from-the-encoder"
    front |= {
        "library_name": "momkd",
        "pipeline_tag": "image-classification",
        "tags": ["computational-pathology", "multiple-instance-learning", card.model],
    }
    if base := encoder_source(card.encoder):
        front["base_model"] = base
    if source.study is None or source.study.metrics is None:
        return front
    means = source.study.metrics["mean_over_folds"]
    known = {k: v for k, v in _HUB_METRICS.items() if means.get(k, {}).get("value") is not None}
    task = " ".join(card.task.split())  # one line: some readers end front matter at any ---
    name = ".".join([source.label, card.encoder or "unknown-encoder", task])
    figures = [
        {"type": hub, "value": round(means[key]["value"], 4), "name": f"{key}, mean over folds"}
        for key, hub in known.items()
    ]
    dataset = {"type": "private", "name": f"{task}, cross-validated"}
    result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": figures}
    front["metrics"] = list(known.values())
    front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _predicts(source: ExportSource) -> list[str]:
    card, n = source.ensemble.card, len(source.ensemble.members)
    negative, positive = card.class_names
    members = "one model" if n == 1 else f"{n} fold models whose probabilities are averaged"
    facts = {
        "predicts": f"{card.task}: {negative} or {positive}; probabilities are in this order",
        "consists of": members,
        "model": f"{card.model}, preset {card.preset or 'none'}",
        "input": f"tile embeddings of one slide, width {card.dims.dim_in}",
        "encoder": card.encoder or "unknown",
        "tile": describe_tile(card),
        "tile graph": f"{card.neighbours} nearest neighbours by coordinates",
        "RNA": "taught, if at all; none is needed or read to predict",
    }
    return ["## What it predicts", _table(("fact", "value"), facts.items())]


def _data(study: Study | None) -> list[str]:
    if study is None:
        return [
            "## Data",
            "The run it is from was not at hand: nothing is known of its cases here.",
        ]
    facts: dict[str, Any] = {"cases": sum(study.cases_by_class.values())}
    facts |= {f"cases {name}": n for name, n in sorted(study.cases_by_class.items())}
    facts |= {
        "slides": study.n_slides,
        "sites": study.n_sites or "not stated",
        "cases with RNA": study.n_with_rna,
        "protocol": study.protocol,
    }
    notes = [f"- {plain(note)}" for note in study.notes]
    table = _table(("what", "value"), facts.items())
    return ["## Data", table, *(["\n".join(notes)] if notes else [])]


def _metrics(source: ExportSource) -> list[str]:
    if source.study is None or source.study.metrics is None:
        why = "It was trained on all cases" if source.study else "Its run was not at hand"
        text = f"None. {why}, so nothing here estimates its accuracy; `momkd crossval` does."
        return ["## Metrics", text]
    entry = source.study.metrics
    rows: list[tuple[str, str]] = []
    for how, key in (("mean over folds", "mean_over_folds"), ("pooled", "pooled")):
        found = entry[key]
        rows += [(f"{name}, {how}", _figure(found[name])) for name in sorted(found)]
    if again := entry.get("auroc_if_trained_again"):
        rows.append(("auroc, mean over folds, if trained again", _figure(again)))
    return [
        "## Metrics",
        _table(("metric", "value [95 % interval]"), rows),
        f"Measured out of fold on {entry['n_cases']} cases: each of the {entry['n_fits']} fold "
        "models scored the cases it had never seen. Intervals are case-level bootstraps; the one "
        '"if trained again" is a corrected t interval over folds.',
        *(
            ["The average of all fold models, which this folder is, has itself been measured on no "
             "case: each of its cases taught some of them."]
            if len(source.ensemble.members) > 1
            else []
        ),
    ]  # fmt: skip


def _decisions(source: ExportSource) -> list[str]:
    ensemble = source.ensemble
    several = len(ensemble.members) > 1
    cuts = [(rule, f"{value:.4f}") for rule, value in ensemble.thresholds.items()]
    rows = [
        (str(number), f"{card.temperature:.4f}", f"{card.offset:+.4f}", f"{card.threshold:.4f}")
        for number, card in enumerate((m.card for m in ensemble.members), start=1)
    ]
    mean = ", the mean of the members' cuts" if several else ""
    return [
        "## Calibration and thresholds",
        "Probability of the second class = sigmoid((logit 2 - logit 1) / temperature + offset). "
        "Temperature and offset were fitted to validation cases by penalised maximum likelihood, "
        "and the cuts chosen on the calibrated probabilities of the same cases: `max_f1` has the "
        "highest F1, `sensitivity_95` the highest specificity at a sensitivity of 95 % or more. "
        f"`{plain(ensemble.card.threshold_rule)}` is applied{mean}.",
        _table(("rule", "cut"), cuts),
        _table(("member", "temperature", "offset", "cut"), rows),
    ]


def _use(card: Card) -> list[str]:
    notes = [f"- {plain(note)}" for note in card.target_notes]
    return [
        "## Intended use",
        "Research on slides like those it was trained on: the encoder, tile and resolution above. "
        "An input that differs is refused.",
        "```python\nimport momkd\n\nmodel = momkd.from_pretrained('FOLDER')\n"
        "answer = model.predict(bag).prediction\n```",
        "or `momkd predict slide.svs --model FOLDER`.",
        "## Limits",
        plain(card.limits),
        *(["\n".join(notes)] if notes else []),
    ]


def _licence(card: Card) -> list[str]:
    words, source = encoder_licence(card.encoder), encoder_source(card.encoder)
    name = plain(card.encoder or "unknown")
    terms = f"published under {plain(words)}" if words else "whose terms are not known here"
    return [
        "## Encoder and licence",
        f"It was trained on embeddings of the encoder {name}"
        f"{f' ({plain(source)})' if source else ''}, {terms}. A model trained on an encoder's "
        "outputs can be no freer than that encoder's terms, and the licence above is theirs"
        f"{' unless its author set another' if card.licence else ''}; check them before you pass "
        "it on.",
    ]


def _origin(source: ExportSource, digests: Mapping[str, str]) -> list[str]:
    card = source.ensemble.card
    facts: dict[str, Any] = {f"SHA-256 of {name}": value for name, value in digests.items()}
    for number, member in enumerate(source.ensemble.members, start=1):
        facts[f"member {number}: weights as trained"] = member.card.weights_sha256
    facts["encoder weights"] = card.encoder_sha256 or "not stated by the feature files"
    facts["trained by"] = f"momkd {card.momkd_version}"
    versions = source.study.versions if source.study else {}
    facts |= {key: versions[key] for key in ("python", "torch", "numpy") if key in versions}
    facts |= {k: v for k, v in sorted(card.provenance.items()) if v is not None and _shared(k)}
    return ["## Digests and versions", _table(("what", "value"), facts.items())]


def _shared(key: str) -> bool:
    """Leave out of the first member's provenance what is its own alone."""
    return key in ("cohort", "control", "selector", "n_genes")


def _figure(found: Mapping[str, Any]) -> str:
    return with_interval(found["value"], found["low"], found["high"])


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell if cell == '---' else plain(str(cell)) for cell in line)} |"
        for line in lines
    )
