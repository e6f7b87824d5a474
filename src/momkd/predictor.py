"""Weights, card and calibration together: a bag goes in, a calibrated prediction comes out.

Nothing here knows of RNA, labels or cohorts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from momkd.errors import ConfigError, IntegrityError, ModelError
from momkd.models import table
from momkd.models.base import BagClassifier
from momkd.serving.admission import examine_bag
from momkd.serving.bundle import is_bundle, parse_bundle, part_tensors
from momkd.serving.card import Card, as_card_fault, describe_card, parse_card, read_config
from momkd.serving.embedding_range import EmbeddingRange, fit_embedding_range
from momkd.serving.weights import pack_weights, require_match, unpack_weights
from momkd.storage import canonical_json, digest_bytes, write_folder
from momkd.types import Bag, Dims, Output, Prediction

__all__ = [
    "Card",
    "EmbeddingRange",
    "Ensemble",
    "EnsemblePrediction",
    "Predictor",
    "fit_embedding_range",
    "from_pretrained",
    "load_predictor",
    "save_predictor",
]

OUT_OF_RANGE = "embeddings out of range"


class Predictor:
    """One trained model and its card.

    Parameters
    ----------
    model
        Is put into evaluation mode.
    card
        What it was made for.
    """

    def __init__(self, model: BagClassifier, card: Card) -> None:
        self.model = model.eval()
        self.card = card

    def require_fit(self, bag: Bag) -> tuple[str, ...]:
        """Turn a bag away that the model was not made for; all faults at once.

        Returns
        -------
        tuple of str
            Flags: what could not be verified, or lies near a limit.

        Raises
        ------
        ModelError
            C09 another width; P01 another encoder, P02 the same with other weights; P03 another
            tile size, a resolution or overlap more than 5 % off, or another k of the graph; F16 no
            coordinates for a model that needs them.
        """
        problems, flags = examine_bag(bag, self.card, graph=self.model.needs_coordinates)
        if problems:
            raise ModelError(*problems)
        return flags

    def logits(self, bag: Bag) -> Float32[np.ndarray, " n_classes"]:
        """Score a bag that fits (:meth:`require_fit`), uncalibrated."""
        return self._run(bag).logits.float().cpu().numpy()

    def predict(self, bag: Bag) -> Prediction:
        """Give calibrated probabilities and attention for one slide.

        A slide whose embeddings lie far outside those of the training slides is scored and flagged
        (:mod:`momkd.serving.embedding_range`).

        Raises
        ------
        ModelError
            As :meth:`require_fit`.
        """
        flags = self.require_fit(bag)
        return self.describe(bag, self._run(bag), flags)

    def describe(self, bag: Bag, output: Output, flags: tuple[str, ...] = ()) -> Prediction:
        """Put what the model said of a bag into a calibrated answer; ``flags`` go with it."""
        logits = output.logits.float().cpu().numpy()
        known = self.card.embedding_range
        is_far = None if known is None else known.distance(bag.embeddings) > known.limit
        return Prediction(
            slide_id=bag.slide_id,
            class_names=self.card.class_names,
            probabilities=self.card.calibration.probabilities(logits[None])[0],
            attention=output.attention.float().cpu().numpy(),
            grid=bag.grid,
            flags=(*flags, OUT_OF_RANGE) if is_far else flags,
            out_of_range=is_far,
            evidence=None if output.evidence is None else output.evidence.float().cpu().numpy(),
        )

    def _run(self, bag: Bag) -> Output:
        self.model.eval()
        device = next(iter(self.model.state_dict().values())).device
        with torch.inference_mode():
            return self.model(bag.to(device))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnsemblePrediction:
    """What several predictors say together; out of range is what most of them call so.

    ``prediction`` holds the means of the members' probabilities, attention and evidence; ``low``
    and ``high`` are the least and greatest probability of the positive class among ``members``.
    They show how far the members disagree and are no confidence interval.
    """

    prediction: Prediction
    low: float
    high: float
    members: tuple[Prediction, ...]


class Ensemble:
    """Predictors of one kind that answer together: their probabilities are averaged.

    Raises
    ------
    ModelError
        P10 no member; P11 members that answer different questions or take different inputs.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        if not members:
            raise ModelError.of("P10", "ensemble", "no member", "give at least one predictor")
        self.members = tuple(members)
        first = members[0].card.identity()
        for number, member in enumerate(members[1:], start=2):
            other = member.card.identity()
            if unequal := [key for key in first if first[key] != other[key]]:
                key = unequal[0]
                what = f"member {number} has {key} {other[key]!r}, the first {first[key]!r}"
                remedy = "combine predictors of one run and one model only"
                raise ModelError.of("P11", "ensemble", what, remedy)

    @property
    def card(self) -> Card:
        """Card of the first member; what :meth:`Card.identity` gives holds for all."""
        return self.members[0].card

    @property
    def thresholds(self) -> dict[str, float]:
        """Mean of the members' cuts, for each rule that all have."""
        cards = [member.card for member in self.members]
        rules = [rule for rule in self.card.thresholds if all(rule in c.thresholds for c in cards)]
        return {rule: float(np.mean([c.thresholds[rule] for c in cards])) for rule in rules}

    @property
    def threshold(self) -> float:
        """Mean of the members' cuts by the rule that is applied."""
        return self.thresholds[self.card.threshold_rule]

    @property
    def positive_share(self) -> float | None:
        """Mean share of positive cases that the members learnt from; None where cards lack it."""
        shares = [m.card.provenance.get("positive_share") for m in self.members]
        known = [float(s) for s in shares if isinstance(s, float | int)]
        return float(np.mean(known)) if known else None

    def has_seen(self, sha256: str) -> bool:
        """Say whether the feature file of this digest taught any member."""
        return any(sha256 in member.card.seen_slides for member in self.members)

    def require_fit(self, bag: Bag) -> tuple[str, ...]:
        """Turn a bag away that the members were not made for, as :meth:`Predictor.require_fit`."""
        return self.members[0].require_fit(bag)

    def predict(self, bag: Bag) -> EnsemblePrediction:
        """Give the members' mean answer for one slide, and how far they disagree.

        Raises
        ------
        ModelError
            As :meth:`Predictor.require_fit`.
        """
        answers = tuple(member.predict(bag) for member in self.members)
        probabilities = np.stack([a.probabilities for a in answers])
        attention = np.stack([a.attention for a in answers]).mean(axis=0)
        told = [a.evidence for a in answers if a.evidence is not None]
        said = [a.out_of_range for a in answers if a.out_of_range is not None]
        is_far = 2 * sum(said) > len(said) if said else None
        flags = [flag for flag in answers[0].flags if flag != OUT_OF_RANGE]
        mean = Prediction(
            slide_id=bag.slide_id,
            class_names=self.card.class_names,
            probabilities=probabilities.mean(axis=0),
            attention=attention,
            grid=bag.grid,
            flags=(*flags, OUT_OF_RANGE) if is_far else tuple(flags),
            out_of_range=is_far,
            evidence=np.mean(told, axis=0) if told else None,
        )
        low, high = float(probabilities[:, 1].min()), float(probabilities[:, 1].max())
        return EnsemblePrediction(prediction=mean, low=low, high=high, members=answers)


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md`` (the Hub's layout).

    The folder is written beside its place and renamed, an older one is replaced; one writer at a
    time. A process killed between the two renames leaves no folder rather than a mixed one.

    Raises
    ------
    ModelError
        C11 weights that are not finite.
    MachineError
        X10 the disk or the permissions do not allow it.
    """
    weights = pack_weights(predictor.model)
    card = predictor.card.model_copy(update={"weights_sha256": digest_bytes(weights)})
    files = {
        "model.safetensors": weights,
        "config.json": canonical_json(card.model_dump(mode="json")).encode(),
        "README.md": describe_card(card).encode(),
    }
    write_folder(folder, files)


def load_predictor(folder: Path | str) -> Predictor:
    """Read a predictor; nothing in it is executed, and what does not fit is refused.

    Raises
    ------
    ModelError
        C05 a file absent, truncated or of another format; C08 a card or weights of another model;
        C09 other shapes; C11 values not finite; C12 another format version.
    IntegrityError
        C13 weights that are not those the card was written with.
    """
    config, path = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    facts = read_config(config)
    if is_bundle(facts):
        what = f"holds {len(facts['members'])} members, wanted one predictor"
        raise ModelError.of("C08", str(config), what, "momkd.from_pretrained reads it")
    card = parse_card(facts, str(config))
    content = _read_weights(path, card.weights_sha256)
    return _assemble(card, unpack_weights(content, str(path)), path)


def from_pretrained(folder: Path | str) -> Ensemble:
    """Read what ``momkd export --to hub`` wrote, or any predictor's folder, as an ensemble.

    Nothing in it is executed. It is a folder on this machine: what lies on the Hub is fetched
    first (``hf download NAME --local-dir FOLDER``).

    Raises
    ------
    ModelError, IntegrityError
        As :func:`load_predictor`; P11 members that do not belong together.
    """
    config, path = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    content = read_config(config)
    if not is_bundle(content):
        return Ensemble([load_predictor(folder)])
    bundle = parse_bundle(content, str(config))
    tensors = unpack_weights(_read_weights(path, bundle.weights_sha256), str(path))
    parts = part_tensors(tensors, len(bundle.members), str(path))
    pairs = zip(bundle.members, parts, strict=True)
    return Ensemble([_assemble(card, part, path) for card, part in pairs])


def _assemble(card: Card, tensors: dict[str, Tensor], path: Path) -> Predictor:
    # shapes are compared on a skeleton without memory: a card that asks for much costs nothing
    with torch.device("meta"):
        skeleton = _build(card, path.parent)
    require_match(tensors, dict(skeleton.state_dict()), str(path))
    with torch.random.fork_rng(devices=[]):
        model = _build(card, path.parent)
    model.load_state_dict(tensors, strict=True)
    return Predictor(model.requires_grad_(False), card)


def _read_weights(path: Path, expected: str | None) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise ModelError.of("C05", str(path), what, "fetch or train the predictor again") from None
    got = digest_bytes(content)
    if got != expected:
        wanted = "none" if expected is None else f"{expected[:12]}..."
        what = f"changed or damaged: SHA-256 is {got[:12]}... ({len(content)} bytes), the card says"
        remedy = "fetch or train the predictor again"
        raise IntegrityError.of("C13", str(path), f"{what} {wanted}", remedy)
    return content


def _build(card: Card, folder: Path) -> BagClassifier:
    dims = Dims(dim_in=card.dims.dim_in, n_classes=card.dims.n_classes, n_genes=None)
    where = str(folder / "config.json")
    try:
        return table.build_model(card.model, dims, options=card.options)
    except ConfigError as error:
        raise ModelError(*(as_card_fault(p) for p in error.problems)) from None
    except (RuntimeError, ValueError, TypeError) as error:
        what = f"its options build no model: {error}"
        raise ModelError.of("C08", where, what, "use the momkd it was written with") from None
