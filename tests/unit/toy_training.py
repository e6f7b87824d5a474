"""A small model with every kind of state, samples in memory, and a training run as a process."""

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from momkd.checkpoint import CheckpointStore
from momkd.config import Options
from momkd.models.base import BagClassifier
from momkd.storage import canonical_json, write_text
from momkd.training import FitOptions, Fitted, fit
from momkd.types import Bag, Dims, Losses, Output, Sample, SampleKey

DIM = 6
N_GENES = 4


class MemorySource:
    """Samples held in memory; counts what is read."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        self.n_read = 0
        self.wait_s = 0.0
        self.before_read: Callable[[], None] = lambda: None

    @property
    def keys(self) -> Sequence[SampleKey]:
        return [
            SampleKey(
                case_id=s.case_id,
                slide_id=None if s.bag is None else s.bag.slide_id,
                label=s.label,
                has_rna=s.rna is not None,
            )
            for s in self.samples
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.before_read()
        self.n_read += 1
        return self.samples[index]

    def rna(self, index: int) -> Any:
        return self.samples[index].rna

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        return (self[i] for i in indices)


class Toy(BagClassifier):
    """Gated mean of tiles with dropout, an RNA term, and a moving centre per class."""

    training_only = ("rna",)
    steps_on_rna_alone = True

    def __init__(self, dims: Dims, options: Options) -> None:
        super().__init__(dims, options)
        self.tiles = nn.Linear(dims.dim_in, 8)
        self.gate = nn.Linear(8, 1)
        self.head = nn.Linear(8, dims.n_classes)
        self.rna = nn.Linear(N_GENES, 8)
        self.register_buffer("centres", torch.zeros(dims.n_classes, 8))
        self.register_buffer("n_moves", torch.zeros((), dtype=torch.int64))

    def forward(self, bag: Bag) -> Output:
        h = torch.tanh(self.tiles(bag.embeddings))
        a = torch.softmax(self.gate(h)[:, 0].float(), dim=0)
        z = functional.dropout((a.to(h.dtype)[:, None] * h).sum(0), 0.3, self.training)
        return Output(logits=self.head(z + self.centres.mean(0)), attention=a, embedding=z)

    def losses(self, batch: Sequence[Sample]) -> Losses:
        seen = [(self(s.bag), s) for s in batch if s.bag is not None]
        terms, carry = {}, []
        if seen:
            logits = torch.stack([o.logits for o, _ in seen]).float()
            terms["ce"] = functional.cross_entropy(logits, torch.tensor([s.label for _, s in seen]))
            carry = [(s.label, o.embedding.detach().float()) for o, s in seen]
        heard = [self.rna(s.rna).square().mean() for s in batch if s.rna is not None]
        if heard:
            noise = torch.rand(())
            terms["rna"] = 0.1 * noise * torch.stack(heard).float().mean()
        return Losses(terms=terms, carry=carry)

    def prepare(self, samples: Any) -> None:
        self.eval()
        with torch.no_grad():
            for index in torch.randperm(len(samples))[:5].tolist():
                bag = samples[index].bag
                if bag is not None:
                    self.centres[samples.keys[index].label] += 0.1 * self(bag).embedding

    def after_step(self, losses: Losses) -> None:
        for label, embedding in losses.carry:
            self.centres[label] = 0.9 * self.centres[label] + 0.1 * embedding
            self.n_moves += 1

    def diagnostics(self) -> dict[str, float]:
        return {"n_moves": float(self.n_moves), "centre_norm": float(self.centres.norm())}


def build(cls: type[BagClassifier] = Toy, seed: int = 3, n_classes: int = 2) -> Any:
    """Build a model the same way each time."""
    torch.manual_seed(seed)
    return cls(Dims(dim_in=DIM, n_genes=N_GENES, n_classes=n_classes), Options())


def make_samples(
    n_cases: int, *, seed: int, name: str, with_rna: bool = True, signal_size: float = 1.0
) -> list[Sample]:
    """Make cases of two classes (one in four positive); every sixth has two slides."""
    rng = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(n_cases):
        label = int(i % 4 == 0)
        rna = torch.randn(N_GENES, generator=rng) if with_rna and i % 3 else None
        for j in range(2 if i % 6 == 0 else 1):
            n_tiles = 3 + i % 5
            tiles = torch.randn(n_tiles, DIM, generator=rng)
            tiles[:, 0] += signal_size * label
            bag = Bag(slide_id=f"{name}{i}-{j}", embeddings=tiles)
            samples.append(Sample(case_id=f"{name}{i}", label=label, bag=bag, rna=rna))
    return samples


def train_source(**kwargs: Any) -> MemorySource:
    """Give the training side: slides, and two cases with RNA alone."""
    bare = [
        Sample(case_id=f"rna{label}", label=label, rna=torch.full((N_GENES,), float(label)))
        for label in (0, 1)
    ]
    return MemorySource(make_samples(16, seed=1, name="t", **kwargs) + bare)


def val_source(**kwargs: Any) -> MemorySource:
    """Give the validation side: slides without RNA."""
    return MemorySource(make_samples(10, seed=2, name="v", with_rna=False, **kwargs))


OPTIONS = FitOptions(epochs=4, lr=1e-2, checkpoint_every_s=1e-9, batch_size=2)


def train_toy(folder: Path | None = None, options: FitOptions = OPTIONS, **kwargs: Any) -> Fitted:
    """Train the toy, with a checkpoint if there is a folder."""
    store = None if folder is None else CheckpointStore(folder)
    return fit(build(), train_source(), val_source(), options, seed=7, checkpoint=store, **kwargs)


def digest(fitted: Fitted) -> dict[str, str]:
    """Give the digest of the weights' bytes and the history's text."""
    weights = save({k: v.contiguous() for k, v in fitted.model.state_dict().items()})
    how = [fitted.best_epoch, fitted.stop_reason, fitted.epochs_run]
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "history": canonical_json(fitted.history),
        "how": canonical_json(how),
    }


def train_to_file(folder: Path, kill_at: tuple[str, int] | None = None) -> None:
    """Train as a process of its own; ``kill_at`` (point, n) makes it kill itself there."""
    torch.set_num_threads(1)
    if kill_at is not None:
        _arm(*kill_at)
    result = digest(train_toy(folder / "checkpoint"))
    write_text(folder / "result.json", json.dumps(result))


def _arm(point: str, n: int) -> None:
    """Kill this process just before the n-th pass of a point (from 1)."""
    owner, name = {
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
        "sample": (MemorySource, "__getitem__"),
        "step": (torch.optim.AdamW, "step"),
        "prepare": (Toy, "prepare"),
        "validation": (Toy, "diagnostics"),
    }[point]
    inner, passes = getattr(owner, name), 0

    def armed(*args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **kwargs)

    setattr(owner, name, armed)
