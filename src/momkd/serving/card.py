"""What a predictor says of itself: how to build it, what it may be given, where it comes from."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, StringConstraints, model_validator

import momkd
from momkd.config import Options, parse_options
from momkd.errors import ConfigError, ModelError, Problem
from momkd.evaluation.calibration import Calibration
from momkd.serving.embedding_range import EmbeddingRange
from momkd.serving.licence import inherited_licence

FORMAT_VERSION = 1

LIMITS = (
    "Research use only; not a medical device, and not to be used to decide on a patient's care. "
    "Valid for tile embeddings of the named encoder at the named tile size and resolution. "
    "Probabilities are calibrated on validation cases of one cohort; another prevalence, scanner "
    "or laboratory needs its own check. Attention shows what was weighed, not why."
)

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class CardDims(Options):
    """Widths of the model's input and output."""

    dim_in: int = Field(ge=1)
    n_classes: int = Field(2, ge=2, le=2)


class Card(Options):
    """The facts that go with a predictor's weights (``config.json``); no patient is named in it.

    Parameters
    ----------
    model, preset, options, dims
        What :func:`momkd.models.table.build_model` builds; ``options`` are complete, so
        ``preset`` only says where they came from.
    task, class_names
        What is predicted; probabilities are in the order of the names, the second is "positive".
    encoder, encoder_sha256, tile_px, overlap_px, magnification, mpp
        What the tiles of the training slides were: an input that differs is refused. None where
        the training files did not say.
    neighbours
        k of the tile graph.
    temperature, offset
        See :class:`~momkd.evaluation.calibration.Calibration`.
    thresholds, threshold_rule
        Cut on the positive class by rule, and the rule that is applied.
    weights_sha256
        Of ``model.safetensors``; set when the predictor is saved.
    embedding_range
        Where the embeddings of the training slides lay: a slide far outside is flagged.
    provenance
        Digests and counts of what it was made from.
    seen_slides
        SHA-256 of the feature files of training and validation.
    licence
        Inherited from the encoder: its terms may cover models trained on its embeddings.
    limits
        What it is not good for.
    target_notes
        What must be said of the label, such as that it was computed from expression.
    """

    format_version: int = FORMAT_VERSION
    momkd_version: str = momkd.__version__
    model: str
    preset: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    dims: CardDims
    task: str
    class_names: tuple[str, ...]
    encoder: str | None = None
    encoder_sha256: str | None = None
    tile_px: int | None = Field(None, gt=0)
    overlap_px: int | None = Field(None, ge=0)
    magnification: float | None = Field(None, gt=0, allow_inf_nan=False)
    mpp: float | None = Field(None, gt=0, allow_inf_nan=False)
    neighbours: int = Field(8, ge=1)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(0.0, allow_inf_nan=False)
    thresholds: dict[str, Probability]
    threshold_rule: str
    weights_sha256: Digest | None = None
    embedding_range: EmbeddingRange | None = None
    provenance: dict[str, str | int | float | None] = Field(default_factory=dict)
    seen_slides: tuple[Digest, ...] = ()
    licence: str | None = None
    limits: str = LIMITS
    target_notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> "Card":
        if len(self.class_names) != self.dims.n_classes:
            raise ValueError(f"{len(self.class_names)} class names, dims say {self.dims.n_classes}")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class names repeat: {self.class_names}")
        if self.threshold_rule not in self.thresholds:
            raise ValueError(f"no threshold for the rule {self.threshold_rule!r}")
        described = self.embedding_range
        if described is not None and len(described.mean) != self.dims.dim_in:
            raise ValueError(
                f"embedding_range has {len(described.mean)} dimensions, dims say {self.dims.dim_in}"
            )
        return self

    @property
    def calibration(self) -> Calibration:
        """How logits become probabilities."""
        return Calibration(temperature=self.temperature, offset=self.offset)

    @property
    def threshold(self) -> float:
        """Cut of the rule that is applied."""
        return self.thresholds[self.threshold_rule]

    def identity(self) -> dict[str, Any]:
        """Give what two predictors must share to answer the same question of the same input."""
        return {
            "model": self.model,
            "options": self.options,
            "dims": self.dims.model_dump(),
            "task": self.task,
            "class_names": self.class_names,
            "encoder": self.encoder,
            "encoder_sha256": self.encoder_sha256,
            "tile_px": self.tile_px,
            "overlap_px": self.overlap_px,
            "magnification": self.magnification,
            "mpp": self.mpp,
            "neighbours": self.neighbours,
            "threshold_rule": self.threshold_rule,
        }


def read_config(path: Path) -> dict[str, Any]:
    """Read a ``config.json`` of this format version, whatever else is in it.

    Raises
    ------
    ModelError
        C05 absent or damaged, C12 another format version.
    """
    remedy = "give the folder that momkd train or crossval wrote"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError.of("C05", str(path), "no such file", remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError.of("C05", str(path), f"cannot be read: {error}", remedy) from None
    if not isinstance(content, dict):
        raise ModelError.of("C05", str(path), "is no predictor's card (no JSON object)", remedy)
    version = content.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        what = f"has format version {version!r}, this momkd reads {FORMAT_VERSION}"
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "install a newer momkd" if newer else "train it again, or use the momkd it is from"
        raise ModelError.of("C12", str(path), what, remedy)
    return content


def parse_card(content: dict[str, Any], where: str) -> Card:
    """Make a card of what ``config.json`` holds.

    Raises
    ------
    ModelError
        C08 keys missing, unknown or unfit.
    """
    try:
        return parse_options(Card, content, where)
    except ConfigError as error:
        raise ModelError(*(as_card_fault(p) for p in error.problems)) from None


def as_card_fault(problem: Problem) -> Problem:
    """Turn a fault of options into one of the card that holds them (C08)."""
    return Problem(code="C08", where=problem.where, what=problem.what, remedy=problem.remedy)


def licence_of(card: Card) -> str:
    """Give the licence tag of a predictor: its own, or its encoder's."""
    return card.licence or inherited_licence(card.encoder)


def describe_card(card: Card) -> str:
    """Write the model card (``README.md``) in the Hub's form."""
    front = {
        "license": licence_of(card),
        "library_name": "momkd",
        "pipeline_tag": "image-classification",
        "tags": ["computational-pathology", "multiple-instance-learning", card.model],
    }
    encoder = card.encoder or "unknown"
    facts = {
        "model": f"{card.model}, preset {card.preset or 'none'}",
        "predicts": f"{card.task}: {' / '.join(card.class_names)}",
        "input": f"tile embeddings of one slide, width {card.dims.dim_in}",
        "encoder": encoder,
        "tile": describe_tile(card),
        "tile graph": f"{card.neighbours} nearest neighbours",
        "threshold": f"{card.threshold:.4f} ({card.threshold_rule})",
        "calibration": f"temperature {card.temperature:.4f}, offset {card.offset:+.4f}",
        "made by": f"momkd {card.momkd_version}",
    } | {key: str(value) for key, value in sorted(card.provenance.items()) if value is not None}
    rows = [f"| {plain(key)} | {plain(value)} |" for key, value in facts.items()]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).rstrip(),
            "---",
            "",
            f"# {plain(card.task)} from slides",
            "",
            "Predicts a biomarker from the tile embeddings of one slide. RNA was used, if at all,",
            "to teach; none is needed or read to predict.",
            "",
            "| fact | value |",
            "|---|---|",
            *rows,
            "",
            "## Intended use",
            "",
            "Research on slides like those it was trained on:",
            '`momkd.load_predictor("FOLDER").predict(bag)`.',
            "",
            "## Limits",
            "",
            plain(card.limits),
            *(f"\n{plain(note)}." for note in card.target_notes),
            "",
            "## Licence",
            "",
            f"It was trained on embeddings of the encoder {plain(encoder)} and can be no freer",
            "than that encoder's terms; check them before you pass it on.",
            "",
        ]
    )


def describe_tile(card: Card) -> str:
    """Say how wide the tiles were and at what scale."""
    side = "unknown side" if card.tile_px is None else f"{card.tile_px} px"
    scale = [] if card.mpp is None else [f"{card.mpp:g} um/px"]
    scale += [] if card.magnification is None else [f"{card.magnification:g}x"]
    return f"{side} at {', '.join(scale) or 'unknown resolution'}"


def plain(text: str) -> str:
    """Keep what a table cell of Markdown can hold: one line, no markup of its own.

    An underline inside a word is no markup and stays as it is.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = "".join("\\" + c if c in "\\`*[]<>|#~&$" else c for c in line)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
