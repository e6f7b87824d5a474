"""What is served: weights, a card that says what they are good for, and a calibration.

Histology in, prediction out. A predictor holds no RNA module and its files hold no pickle.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import momkd
from momkd.config import Options, parse_options
from momkd.errors import IntegrityError, ModelError, Problem
from momkd.evaluation.calibration import Calibration
from momkd.models.base import BagClassifier
from momkd.models.table import MODELS, build_model
from momkd.storage import canonical_json, digest_bytes, sync_folder, write_bytes, write_text
from momkd.types import Bag, Dims, Prediction

FORMAT_VERSION = 1
_MPP_TOLERANCE = 0.05
_SHOWN = 10


class Card(Options):
    """What a predictor is, what it was taught on, and what it may be asked.

    Parameters
    ----------
    model, preset, options
        Name in the table of models, and all its options.
    dims
        ``dim_in``, ``n_classes``.
    encoder, tile_px, magnification, mpp
        What made the embeddings it was taught on; None where the files did not say.
    neighbours
        k of the tile graph.
    temperature, offset
        Calibration, fitted on validation cases.
    thresholds, threshold_rule
        Cuts on the calibrated probability by rule, and the rule in use.
    seen_slides
        SHA-256 of the feature files it was taught or tuned on.
    provenance
        Digests and counts; no patient id.
    """

    format_version: int = FORMAT_VERSION
    model: str
    preset: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    dims: dict[str, int]
    task: str
    class_names: tuple[str, ...]
    encoder: str | None = None
    tile_px: int | None = None
    magnification: float | None = None
    mpp: float | None = None
    neighbours: int = 8
    temperature: float = Field(1.0, gt=0)
    offset: float = 0.0
    thresholds: dict[str, float]
    threshold_rule: str
    seen_slides: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)
    weights_sha256: str = ""
    momkd_version: str = momkd.__version__
    licence: str = "inherits the terms of the tile encoder and of the training data"
    limits: str = "research use; not a medical device; valid for slides like those it was taught on"

    @property
    def calibration(self) -> Calibration:
        """The calibration of its logits."""
        return Calibration(temperature=self.temperature, offset=self.offset)

    @property
    def threshold(self) -> float:
        """The cut in use."""
        return self.thresholds[self.threshold_rule]

    def serves_as(self) -> tuple[Any, ...]:
        """Give what members of one ensemble must have in common."""
        return (
            self.model,
            self.dims,
            self.task,
            self.class_names,
            self.encoder,
            self.tile_px,
            self.magnification,
            self.mpp,
            self.neighbours,
        )


class Predictor:
    """A model with its card, in evaluation mode."""

    def __init__(self, model: BagClassifier, card: Card) -> None:
        self.model = model.eval()
        self.card = card

    def require_fit(self, bag: Bag) -> tuple[str, ...]:
        """Turn away a bag that the model was not taught for.

        Returns
        -------
        tuple of str
            Flags: what could not be verified.

        Raises
        ------
        ModelError
            All at once: P01 another encoder, P03 another tile size, magnification or mpp, C09
            another width, F16 no coordinates for a graph model.
        """
        card, grid, problems = self.card, bag.grid, list[Problem]()
        flags: list[str] = []

        def refuse(code: str, what: str, remedy: str) -> None:
            problems.append(Problem(code=code, where=bag.slide_id, what=what, remedy=remedy))

        if card.encoder and not bag.encoder:
            flags.append("encoder unverified")
        elif card.encoder and bag.encoder != card.encoder:
            what = (
                f"embeddings of encoder {bag.encoder}, the predictor was taught on {card.encoder}"
            )
            refuse("P01", what, "extract with that encoder")
        if bag.dim != card.dims["dim_in"]:
            what = f"predictor expects {card.dims['dim_in']} features a tile, got {bag.dim}"
            refuse("C09", what, "extract with the encoder of the card")
        if grid is None and MODELS[card.model].needs_coordinates:
            what = f"no tile coordinates, which {card.model} needs for its graph"
            refuse("F16", what, "write 'coords' into the feature file")
        if grid is not None:
            for name in ("tile_px", "magnification"):
                wanted, got = getattr(card, name), getattr(grid, name)
                if wanted and got and wanted != got:
                    refuse("P03", f"{name} is {got:g}, taught on {wanted:g}", "tile it alike")
            if card.mpp and grid.mpp and abs(grid.mpp / card.mpp - 1) > _MPP_TOLERANCE:
                what = f"mpp is {grid.mpp:g}, taught on {card.mpp:g}"
                refuse("P03", what, "tile it at that resolution")
            if card.mpp and not grid.mpp:
                flags.append("mpp unverified")
        if problems:
            raise ModelError(*problems)
        return tuple(flags)

    def logits(self, bag: Bag) -> Float32[np.ndarray, " n_classes"]:
        """Score one slide, uncalibrated."""
        with torch.inference_mode():
            return self.model(bag).logits.float().cpu().numpy()

    def predict(self, bag: Bag) -> Prediction:
        """Score one slide, calibrated.

        Raises
        ------
        ModelError
            As :meth:`require_fit`.
        """
        flags = self.require_fit(bag)
        with torch.inference_mode():
            output = self.model(bag)
        logits = output.logits.float().cpu().numpy()[None]
        return Prediction(
            slide_id=bag.slide_id,
            class_names=self.card.class_names,
            probabilities=self.card.calibration.probabilities(logits)[0],
            attention=output.attention.float().cpu().numpy(),
            grid=bag.grid,
            flags=flags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsemblePrediction:
    """The mean of several predictors, and how far they are apart on the positive class."""

    prediction: Prediction
    low: float
    high: float


class Ensemble:
    """Fold models that answer together: probabilities and attention are averaged.

    Raises
    ------
    ModelError
        P10 members that were taught for different inputs or tasks.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        first = members[0].card.serves_as()
        for i, member in enumerate(members):
            if member.card.serves_as() != first:
                what = f"member {i} was taught for another input or task than member 0"
                raise ModelError.of("P10", "ensemble", what, "use fold models of one run")
        self.members = tuple(members)
        self._seen = {digest for m in members for digest in m.card.seen_slides}

    @property
    def card(self) -> Card:
        """Card of the first member; all agree in what they serve."""
        return self.members[0].card

    @property
    def threshold(self) -> float:
        """Mean of the members' cuts."""
        return float(np.mean([m.card.threshold for m in self.members]))

    def has_seen(self, sha256: str) -> bool:
        """Say whether a feature file taught or tuned any member."""
        return sha256 in self._seen

    def predict(self, bag: Bag) -> EnsemblePrediction:
        """Score one slide with every member.

        Raises
        ------
        ModelError
            As :meth:`Predictor.require_fit`.
        """
        answers = [m.predict(bag) for m in self.members]
        probabilities = np.mean([a.probabilities for a in answers], axis=0)
        positive = [float(a.probabilities[1]) for a in answers]
        prediction = Prediction(
            slide_id=bag.slide_id,
            class_names=answers[0].class_names,
            probabilities=probabilities,
            attention=np.mean([a.attention for a in answers], axis=0),
            grid=bag.grid,
            flags=answers[0].flags,
        )
        return EnsemblePrediction(prediction=prediction, low=min(positive), high=max(positive))


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``; whole or not at all.

    Only tensors that prediction needs are written. Equal predictors give equal bytes.
    """
    state = {k: t.detach().cpu().contiguous() for k, t in predictor.model.serving_state()}
    weights = save_tensors(state)
    card = predictor.card.model_copy(update={"weights_sha256": digest_bytes(weights)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write_bytes(made / "model.safetensors", weights)
        write_text(made / "config.json", canonical_json(card.model_dump(mode="json")))
        write_text(made / "README.md", _readme(card))
        made.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def load_predictor(folder: Path) -> Predictor:
    """Read a predictor.

    Raises
    ------
    ModelError
        C05 a damaged file, C08 missing or extra tensors, C09 other shapes, C11 NaN weights, C12 an
        unknown format.
    IntegrityError
        C13 weights that are not those of the card.
    """
    card = _read_card(folder)
    path = folder / "model.safetensors"
    try:
        content = path.read_bytes()
        state = load_tensors(content)
    except (OSError, SafetensorError) as error:
        what = f"cannot be read: {' '.join(str(error).split())}"
        raise ModelError.of("C05", str(path), what, "copy the predictor again") from None
    if card.weights_sha256 and digest_bytes(content) != card.weights_sha256:
        what = "is not the file its config.json was written with (SHA-256 differs)"
        raise IntegrityError.of("C13", str(path), what, "copy the predictor again")
    dims = Dims(dim_in=card.dims["dim_in"], n_classes=card.dims["n_classes"], n_genes=None)
    model = build_model(card.model, dims, None, card.options)
    _require_tensors(path, model, state)
    model.load_state_dict(state, strict=True)
    return Predictor(model, card)


def _read_card(folder: Path) -> Card:
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError.of("C05", str(path), f"cannot be read: {error}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        what = f"has format version {version}, this momkd reads {FORMAT_VERSION}"
        raise ModelError.of("C12", str(path), what, "install the momkd that wrote it")
    return parse_options(Card, content, str(path))


def _require_tensors(path: Path, model: BagClassifier, state: dict[str, torch.Tensor]) -> None:
    wanted = model.state_dict()
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or extra:
        what = f"lacks {missing[:_SHOWN]} and has {extra[:_SHOWN]} beyond its model"
        raise ModelError.of("C08", str(path), what, "it belongs to another model or version")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            what = f"{name} has shape {list(state[name].shape)}, wanted {list(tensor.shape)}"
            raise ModelError.of("C09", str(path), what, "it belongs to another card")
        if state[name].is_floating_point() and not bool(torch.isfinite(state[name]).all()):
            raise ModelError.of("C11", str(path), f"{name} holds NaN or infinity")


def _readme(card: Card) -> str:
    known = card.provenance
    return f"""---
library_name: momkd
tags: [computational-pathology, multiple-instance-learning, {card.model}]
pipeline_tag: other
license: other
---

# {card.task} from histology: {card.model}

Predicts {" or ".join(card.class_names)} from the tile embeddings of one slide; no RNA is needed.

- encoder: {card.encoder or "not stated"}; {card.dims["dim_in"]} features a tile
- tile: {card.tile_px or "?"} px, magnification {card.magnification or "?"}, mpp {card.mpp or "?"}
- threshold ({card.threshold_rule}): {card.threshold:.4f} on the calibrated probability
- taught on {known.get("n_train", "?")} cases, tuned on {known.get("n_val", "?")}

Licence: {card.licence}. Limits: {card.limits}.

    momkd predict --model THIS_FOLDER features/ -o predictions.csv
"""
