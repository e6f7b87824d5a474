"""The nouns of the package: frozen, checked once at construction, trusted afterwards.

Shapes and dtypes stand in the annotations (jaxtyping); tests check them at run time. Units end
names: ``_px0`` level-0 pixels, ``_px`` pixels of the encoder's view, ``_um`` micrometres.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileGrid:
    """Where the tiles of one slide lie.

    Tiles at one place are legal (some tilers overlap contours); the reader counts them.

    Parameters
    ----------
    slide_id
        The slide.
    coords_px0
        (x, y) of each tile's top-left corner in level-0 pixels.
    tile_px0
        Side of a tile on level 0, in level-0 pixels; varies from slide to slide. None if unknown.
    tile_px
        Side of the view the encoder saw, in its own pixels; None if unknown.
    mpp
        Micrometres per pixel of that view; None if unknown, never guessed.
    magnification
        Objective power of that view as the writer declared it; None if unknown.
    width_px0, height_px0
        Size of the slide; None if unknown.
    overlap_px
        How much of a tile its neighbour shares, in pixels of the encoder's view; None if unknown.
    is_level0
        False where places are known in micrometres only: distances are right, and a "level-0
        pixel" is one pixel of the encoder's view.

    Raises
    ------
    ValueError
        No tile, or a side or resolution that is not positive.
    """

    slide_id: str
    coords_px0: Int64[np.ndarray, "n_tiles 2"]
    tile_px0: float | None = None
    tile_px: int | None = None
    mpp: float | None = None
    magnification: float | None = None
    width_px0: int | None = None
    height_px0: int | None = None
    overlap_px: int | None = None
    is_level0: bool = True

    def __post_init__(self) -> None:
        _require(len(self.coords_px0) >= 1, f"{self.slide_id}: a grid has at least one tile")
        for name in ("tile_px0", "tile_px", "mpp", "magnification", "width_px0", "height_px0"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"{self.slide_id}: {name} must be > 0")

    def __len__(self) -> int:
        return len(self.coords_px0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bag:
    """One slide as a model sees it: tile embeddings, their places, and who is near whom.

    Parameters
    ----------
    slide_id
        The slide.
    embeddings
        One row a tile; float16 or float32.
    grid
        Places of the tiles, row for row; None where the source has no coordinates.
    neighbours
        Each tile's own k nearest tiles, nearest first; -1 where the bag has fewer than k + 1
        tiles; None without coordinates.
    encoder
        Identity of the tile encoder; None if the source does not say.
    digest
        SHA-256 of the file it was read from; None for a bag made in memory.
    encoder_sha256
        Digest of the encoder's weights and preprocessing; None if the source does not say.

    Raises
    ------
    ValueError
        Lengths that disagree or neighbours out of range.
    """

    slide_id: str
    embeddings: Float[Tensor, "n_tiles dim"]
    grid: TileGrid | None = None
    neighbours: Int32[Tensor, "n_tiles k"] | None = None
    encoder: str | None = None
    digest: str | None = None
    encoder_sha256: str | None = None

    def __post_init__(self) -> None:
        n_tiles = len(self.embeddings)
        _require(n_tiles >= 1, f"{self.slide_id}: a bag has at least one tile")
        if self.grid is not None:
            _require(len(self.grid) == n_tiles, f"{self.slide_id}: grid and embeddings differ")
        if self.neighbours is not None:
            _require(len(self.neighbours) == n_tiles, f"{self.slide_id}: neighbours differ")
            # what lies on another device was checked before it went there; asking would wait for it
            if self.neighbours.numel() and self.neighbours.device.type == "cpu":
                low, high = torch.aminmax(self.neighbours)
                _require(int(low) >= -1 and int(high) < n_tiles, f"{self.slide_id}: neighbours")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.embeddings.shape[1]

    @property
    def n_bytes(self) -> int:
        """Room that the tensors take."""
        return self.embeddings.nbytes + (0 if self.neighbours is None else self.neighbours.nbytes)

    def to(self, device: torch.device | str) -> "Bag":
        """Give the same bag with its tensors on ``device``."""
        near = None if self.neighbours is None else self.neighbours.to(device)
        return replace(self, embeddings=self.embeddings.to(device), neighbours=near)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expression:
    """A transcriptomic table: cases x genes.

    ``scale`` says what the values are: ``counts``, ``tpm``, ``rsem``, ``log2``, ``zscore`` or
    ``unknown``. Values are NaN where they are missing, and only where ``has_missing`` says so.
    """

    case_ids: tuple[str, ...]
    genes: tuple[str, ...]
    values: Float32[np.ndarray, "n_cases n_genes"]
    scale: str = "unknown"
    has_missing: bool = False

    def __post_init__(self) -> None:
        _require(self.values.shape == (len(self.case_ids), len(self.genes)), "expression shape")
        _require(len(set(self.case_ids)) == len(self.case_ids), "expression: case ids repeat")
        _require(len(set(self.genes)) == len(self.genes), "expression: genes repeat")
        finite = np.isfinite(self.values)
        allowed = finite | np.isnan(self.values) if self.has_missing else finite
        _require(bool(allowed.all()), "expression: values are finite")

    def rows(self, case_ids: list[str] | tuple[str, ...]) -> Float32[np.ndarray, "n genes"]:
        """Give the rows of ``case_ids`` in that order; KeyError for a case without RNA."""
        place = {c: i for i, c in enumerate(self.case_ids)}
        return self.values[[place[c] for c in case_ids]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFile:
    """A feature file that passed its door, what it declared there, and how it was read.

    ``feature_key`` is the dataset of the embeddings where it is not the layout's own;
    ``drop_nonfinite`` leaves out rows with NaN or infinite values; ``coords_dir`` is where its
    file of corners lies, and ``mpp0`` the resolution of its level 0, if these were told.
    ``origin_sha256`` is the digest of the file that a packed one was made from.
    """

    slide_id: str
    path: Path
    sha256: str
    n_tiles: int
    dim: int
    encoder: str | None = None
    tile_px: int | None = None
    tile_px0: float | None = None
    mpp: float | None = None
    magnification: float | None = None
    has_coords: bool = True
    encoder_sha256: str | None = None
    overlap_px: int | None = None
    feature_key: str | None = None
    drop_nonfinite: bool = False
    coords_dir: Path | None = None
    mpp0: float | None = None
    origin_sha256: str | None = None

    @property
    def content_sha256(self) -> str:
        """The digest by which two files are known to hold the same slide's features."""
        return self.origin_sha256 or self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A patient: label, split and score belong here.

    ``label`` is an index into the cohort's ``class_names``; ``slide_ids`` may be empty (RNA only).
    """

    case_id: str
    slide_ids: tuple[str, ...]
    label: int
    site: str | None = None
    has_rna: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.slide_ids) or self.has_rna, f"{self.case_id}: no modality")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covariates:
    """Clinical covariates as the table states them: a value a name and case, empty if unknown."""

    names: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """Cases that may take part in one task, with the files of their slides and their RNA.

    ``covariates`` feed the clinical baseline and nothing else.
    """

    task: str
    class_names: tuple[str, ...]
    cases: tuple[Case, ...]
    slides: Mapping[str, SlideFile]
    expression: Expression | None = None
    covariates: Covariates | None = None

    def __post_init__(self) -> None:
        ids = [c.case_id for c in self.cases]
        _require(len(set(ids)) == len(ids), "cohort: case ids repeat")
        owned = [s for c in self.cases for s in c.slide_ids]
        _require(len(set(owned)) == len(owned), "cohort: a slide belongs to one case")
        _require(set(owned) == set(self.slides), "cohort: slides and cases agree")

    def case(self, case_id: str) -> Case:
        """Give one case; KeyError if it is not in the cohort."""
        for case in self.cases:
            if case.case_id == case_id:
                return case
        raise KeyError(case_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One split of the cases: train, validation, test.

    Cases with RNA only stand in ``train`` of every fold: there is no slide to score.
    """

    index: int
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        sides = [set(self.train), set(self.val), set(self.test)]
        total = len(self.train) + len(self.val) + len(self.test)
        _require(len(set().union(*sides)) == total, f"fold {self.index}: a case on two sides")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What one training step learns from: a slide, its case's RNA and label, as far as present."""

    case_id: str
    label: int
    bag: Bag | None = None
    rna: Float32[Tensor, " n_genes"] | None = None

    def __post_init__(self) -> None:
        _require(self.bag is not None or self.rna is not None, f"{self.case_id}: no modality")

    def to(self, device: torch.device | str) -> "Sample":
        """Give the same sample with its tensors on ``device``."""
        bag = None if self.bag is None else self.bag.to(device)
        rna = None if self.rna is None else self.rna.to(device)
        return replace(self, bag=bag, rna=rna)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleKey:
    """What is known of a sample without reading its slide."""

    case_id: str
    slide_id: str | None
    label: int
    has_rna: bool


@runtime_checkable
class SampleSource(Protocol):
    """Training or validation samples, read when asked for.

    One sample a slide (with its case's RNA, if any), and one for each case with RNA alone.
    """

    @property
    def keys(self) -> Sequence[SampleKey]:
        """Keys of all samples, in order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def rna(self, index: int) -> Float32[Tensor, " n_genes"] | None:
        """Give the RNA of one sample, if it has any, without reading its slide."""
        ...

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Give samples in order, reading one ahead."""
        ...

    @property
    def wait_s(self) -> float:
        """Seconds that consumers of :meth:`iterate` have waited for data so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dims:
    """Widths that data dictate to a model; ``n_genes`` None builds the histology side alone."""

    dim_in: int
    n_classes: int = 2
    n_genes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Output:
    """What a model says of one slide; attention is non-negative and sums to 1 over the tiles.

    ``evidence`` is each tile's word for the positive class, where a model has such a thing (MoMKD,
    eq. 7: cosine to the nearest slot of that class less that of the other, in [-2, 2]).
    """

    logits: Float[Tensor, " n_classes"]
    attention: Float[Tensor, " n_tiles"]
    embedding: Float[Tensor, " dim_slide"]
    evidence: Float[Tensor, " n_tiles"] | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Losses:
    """Weighted loss terms of one batch, and what ``after_step`` needs of it.

    A term that no sample of the batch feeds is absent, never zero by convention. ``fed`` says over
    how many samples each term is a mean, where a model's batch can be divided; 0 is a term of the
    model alone.
    """

    terms: dict[str, Tensor]
    carry: Any = None
    fed: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """Sum of the terms, a scalar."""
        return torch.stack([t.reshape(()) for t in self.terms.values()]).sum()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """A calibrated answer for one slide; ``grid`` None where the source has no coordinates.

    ``out_of_range`` says whether the slide's embeddings lie far outside those of the training
    slides; None where the card does not say. ``evidence`` as in :class:`Output`.
    """

    slide_id: str
    class_names: tuple[str, ...]
    probabilities: Float[np.ndarray, " n_classes"]
    attention: Float[np.ndarray, " n_tiles"]
    grid: TileGrid | None = None
    flags: tuple[str, ...] = field(default=())
    out_of_range: bool | None = None
    evidence: Float[np.ndarray, " n_tiles"] | None = None

    def __post_init__(self) -> None:
        _require(abs(float(self.probabilities.sum()) - 1) < 1e-5, "probabilities sum to 1")
