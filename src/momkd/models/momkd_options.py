"""Hyper-parameters of MoMKD and what the presets ``code`` and ``plus`` change in them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from momkd import config
from momkd.nn.graph_attention import Direction

TEMPERATURE_RANGE = (0.01, 2.0)


class LossWeights(config.Options):
    """Weights of the loss terms."""

    ce: float = Field(0.5, ge=0)
    memory: float = Field(0.1, ge=0)
    align_wsi: float = Field(0.2, ge=0)
    align_omics: float = Field(0.05, ge=0)
    reconstruction: float = Field(0.01, ge=0)
    programmes: float = Field(1.0, ge=0)
    odds: float = Field(0.5, ge=0)


class MemoryStart(config.Options):
    """How the memory starts: spherical k-means of projected training tiles.

    Parameters
    ----------
    tiles_per_class
        Random tiles wanted of each class.
    slides_per_class
        Slides of a class over which these are spread at least, if it has so many: the cap on the
        tiles of one slide follows from it.
    steps
        Steps of the k-means.
    """

    tiles_per_class: int = Field(5_000, ge=1)
    slides_per_class: int = Field(50, ge=1)
    steps: int = Field(20, ge=1)


class MoMKDOptions(config.Options):
    """Hyper-parameters of MoMKD; the defaults are the preset ``paper``.

    Parameters
    ----------
    dim, dim_shared
        Widths of an encoded tile (and slide), and of the space of the memory.
    dim_rna, dim_rna_hidden, dim_head
        Widths of the RNA vector, inside the RNA towers, and inside an ``mlp`` head.
    n_heads, n_slots
        Attention heads of the graph layers; slots a class.
    edges
        ``own``: a tile hears its nearest tiles; ``listed_by``: the tiles that list it.
    temperature, learn_temperature
        Of the attention; where learned, its start, and it is clamped to [.01, 2].
    head
        ``linear``, or ``mlp``: LayerNorm, Linear, ReLU, Dropout, Linear.
    memory_update
        ``learned``: a parameter moved by gradients; ``ema``: an exponential moving average of
        assigned projections; ``fixed``: the start, frozen.
    renormalise
        Put learned slots back on the unit sphere after each step.
    ema_momentum, revive_after
        Of ``ema``: m, and the steps of its class without a point after which a slot is moved onto
        a random point.
    memory_loss
        ``paper``: eq. 11, orthogonality of both classes once a step. ``code``: distance averaged
        over dimensions too, own label's orthogonality times 10 / n_slots^2.
    align_scale, margin, tau_agg
        beta, margin and aggregation temperature of the alignment.
    teaching
        ``classes``: both modalities are drawn to the slots of their class, as the paper has it.
        ``programmes``: the slots are the poles of the ``n_slots`` leading programmes of expression,
        and a slide must lie between them where its case's RNA lies. Tiles are then attended to by
        a gate of their own (Ilse et al. 2018, eq. 9), ``dim_gate`` wide, and not by their evidence.
    encoder
        ``graph``: two layers of graph attention; ``tiles``, with ``programmes`` only: each tile by
        itself, one layer.
    decay
        What weight decay acts on: ``matrices`` (not the memory, biases, norms) or ``all``.
    """

    dim: int = Field(256, ge=1)
    dim_shared: int = Field(128, ge=1)
    dim_rna: int = Field(256, ge=1)
    dim_rna_hidden: int = Field(512, ge=1)
    dim_head: int = Field(128, ge=1)
    n_heads: int = Field(2, ge=1)
    n_slots: int = Field(16, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    dropout_attention: float = Field(0.5, ge=0, lt=1)
    dropout_rna: float = Field(0.25, ge=0, lt=1)
    dropout_head: float = Field(0.5, ge=0, lt=1)
    edges: Direction = "own"
    temperature: float = Field(0.2, ge=TEMPERATURE_RANGE[0], le=TEMPERATURE_RANGE[1])
    learn_temperature: bool = False
    head: Literal["linear", "mlp"] = "linear"
    memory_update: Literal["learned", "ema", "fixed"] = "learned"
    renormalise: bool = True
    ema_momentum: float = Field(0.99, ge=0, lt=1)
    revive_after: int = Field(200, ge=1)
    memory_loss: Literal["paper", "code"] = "paper"
    align_scale: float = Field(20.0, gt=0)
    margin: float = 0.3
    tau_agg: float = Field(5.0, gt=0)
    decay: Literal["matrices", "all"] = "matrices"
    encoder: Literal["graph", "tiles"] = "graph"
    dim_gate: int = Field(256, ge=1)
    teaching: Literal["classes", "programmes"] = "classes"
    weights: LossWeights = Field(default_factory=LossWeights)
    start: MemoryStart = Field(default_factory=MemoryStart)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "MoMKDOptions":
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is no multiple of n_heads {self.n_heads}")
        return self

    @model_validator(mode="after")
    def _teaching_fits_the_rest(self) -> "MoMKDOptions":
        if self.teaching == "classes":
            if self.encoder == "tiles":
                raise ValueError("encoder: tiles needs teaching: programmes")
            return self
        if self.memory_update != "learned":
            raise ValueError("teaching: programmes needs memory_update: learned")
        if self.n_slots > self.dim_shared:
            raise ValueError(
                f"{self.n_slots} programmes have no room in {self.dim_shared} dimensions: "
                "lower n_slots or raise dim_shared"
            )
        return self


CODE: dict[str, Any] = {
    "dim": 512,
    "dim_rna": 512,
    "dim_shared": 64,
    "edges": "listed_by",
    "learn_temperature": True,
    "head": "mlp",
    "renormalise": False,
    "memory_loss": "code",
    "decay": "all",
    "weights": {"reconstruction": 0.05},
    "start": {"tiles_per_class": 50_000, "slides_per_class": 1},
}

PLUS: dict[str, Any] = {
    "encoder": "tiles",
    "teaching": "programmes",
    "n_slots": 8,
    "dropout": 0.25,
    "weights": {"memory": 0.01},
}
