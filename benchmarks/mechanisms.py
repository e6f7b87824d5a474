"""Which mechanism lets RNA teach a slide? A quick screening on small networks: docs/lab-log.md.

    PYTHONPATH=src python benchmarks/mechanisms.py --seeds 100,101,102 -o mechanisms.jsonl

Small dense networks without a graph, some fifteen seconds a training, so that many may be tried;
what wins is built into the package and measured there (`benchmarks/headroom.py`). Every line of the
output is one training: variant, seed, AUROC on new cases, exact ceiling on the same. `--table FILE`
prints the means. The seeds are for choosing; no seed used there is used to report.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from momkd.simulation import SCENARIOS, SimulationOptions, simulate, slide_probabilities

N_TRAIN, N_NEW, BATCH, LR, PATIENCE, SMOOTHING = 1000, 1500, 16, 1e-3, 15, 0.4


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One mechanism.

    Parameters
    ----------
    dim, dim_gate, dropout
        Of the network.
    n_heads
        Gates; each reads a programme of its own, the classifier reads all.
    n_programmes
        Principal components of expression that the slide must tell; 0 for none.
    weight
        Of that term.
    poles
        Programmes are read off pairs of slots: of a unit vector (``cosine``), of a plain one
        (``free``), or of a plain one with slots that start on the axes (``axes``).
    read_only
        The classifier sees the programmes that were read, and nothing else.
    soft
        Half of the label is the cross-fitted P(positive | RNA).
    pre_epochs
        Epochs in which programmes alone are learnt.
    tile_drop
        Share of the tiles left out at each step.
    average
        Decay of an average of the weights, which is what is scored.
    sigmoid
        Gates do not compete: a_i = sigmoid(s_i) / (1 + sum).
    members
        Networks whose scores are averaged.
    """

    dim: int = 64
    dim_gate: int = 32
    dropout: float = 0.25
    n_heads: int = 1
    n_programmes: int = 0
    weight: float = 1.0
    poles: Literal["cosine", "free", "axes"] | None = None
    read_only: bool = False
    soft: bool = False
    pre_epochs: int = 0
    tile_drop: float = 0.0
    average: float = 0.0
    sigmoid: bool = False
    members: int = 1
    epochs: int = 50
    weight_decay: float = 1e-4


_EIGHT: dict[str, Any] = {"n_programmes": 8}
_HEADS: dict[str, Any] = {"n_programmes": 8, "n_heads": 8}
_SOFT: dict[str, Any] = {"n_programmes": 8, "soft": True}
VARIANTS = {
    "ABMIL": Variant(),
    "ABMIL, 20 epochs": Variant(epochs=20),
    "programmes": Variant(**_EIGHT),
    "programmes, term x 4": Variant(**_EIGHT, weight=4),
    "programmes, 20 epochs": Variant(**_EIGHT, epochs=20),
    "programmes first": Variant(**_EIGHT, pre_epochs=15),
    "programmes read alone": Variant(**_EIGHT, read_only=True),
    "programmes, half the tiles a step": Variant(**_EIGHT, tile_drop=0.5),
    "programmes, gates that do not compete": Variant(**_EIGHT, sigmoid=True),
    "programmes, three networks": Variant(**_EIGHT, members=3),
    "a gate a programme": Variant(**_HEADS),
    "a gate a programme, programmes first": Variant(**_HEADS, pre_epochs=15),
    "a gate a programme, read alone": Variant(**_HEADS, read_only=True),
    "a gate a programme, poles (cosine)": Variant(**_HEADS, poles="cosine"),
    "poles (cosine)": Variant(**_EIGHT, poles="cosine"),
    "programmes + soft labels": Variant(**_SOFT),
    "programmes + soft labels, 20 epochs": Variant(**_SOFT, epochs=20),
    "programmes + soft labels, 90 epochs": Variant(**_SOFT, epochs=90),
    "programmes + soft labels, 20 epochs, dropout .5": Variant(**_SOFT, epochs=20, dropout=0.5),
    "programmes + soft labels, 20 epochs, width 32": Variant(**_SOFT, epochs=20, dim=32),
    "programmes + soft labels, decay .05": Variant(**_SOFT, weight_decay=0.05),
    "programmes + soft labels, averaged weights": Variant(**_SOFT, average=0.99),
    "poles (free) + soft labels": Variant(**_SOFT, poles="free"),
    "poles (axes) + soft labels": Variant(**_SOFT, poles="axes"),
}


def draw_cohort(scenario: str, seed: int) -> dict[str, np.ndarray]:
    """Simulate cases to learn from and new ones of the same world, a slide each, padded."""
    found: dict[str, np.ndarray] = {}
    common = SCENARIOS[scenario] | {"world": seed, "equivocal": 0.0, "two_slides": 0.0}
    for name, n_cases, draw in (("train", N_TRAIN, 2 * seed), ("new", N_NEW, 2 * seed + 1)):
        cohort = simulate(SimulationOptions(**common | {"n_cases": n_cases, "seed": draw}))
        tiles = [slide.embeddings for slide in cohort.slides]
        sizes = np.array([len(x) for x in tiles])
        padded = np.zeros((n_cases, sizes.max(), tiles[0].shape[1]), np.float32)
        for row, x in zip(padded, tiles, strict=True):
            row[: len(x)] = x
        found |= {f"{name} tiles": padded, f"{name} sizes": sizes}
        found |= {f"{name} labels": cohort.labels.astype(int), f"{name} rna": cohort.rna}
    found["ceiling"] = slide_probabilities(cohort)
    return found


class Network(nn.Module):
    """A gated attention pooling with a classifier, and what reads programmes off its slides."""

    def __init__(self, dim_in: int, of: Variant) -> None:
        super().__init__()
        self.of, n = of, of.n_programmes
        self.encoder = nn.Sequential(nn.Linear(dim_in, of.dim), nn.ReLU(), nn.Dropout(of.dropout))
        self.content, self.gate = nn.Linear(of.dim, of.dim_gate), nn.Linear(of.dim, of.dim_gate)
        self.score, self.dropout = nn.Linear(of.dim_gate, of.n_heads), nn.Dropout(0.25)
        self.floor = nn.Parameter(torch.tensor(-2.0))
        self.classifier = nn.Linear(of.dim * of.n_heads, 1)
        if n:
            self.reader = nn.Parameter(0.1 * torch.randn(n, of.dim))
            self.shift = nn.Parameter(torch.zeros(n))
            self.mixer = nn.Linear(n, 1)
        if of.poles:
            self.projection = nn.Linear(of.dim, 32)
            axes = torch.stack([-torch.eye(32)[:n], torch.eye(32)[:n]])
            random = normalize(torch.randn(2, n, 32), dim=-1)
            self.slots = nn.Parameter(axes if of.poles == "axes" else random)
            self.scale = nn.Parameter(torch.full((n,), 0.5 if of.poles == "axes" else 2.0))

    def forward(self, tiles: torch.Tensor, there: torch.Tensor) -> tuple[Any, Any]:
        """Give logits and programmes."""
        hidden = self.encoder(tiles)
        content = self.dropout(torch.tanh(self.content(hidden)))
        scores = self.score(content * self.dropout(torch.sigmoid(self.gate(hidden))))
        if self.of.sigmoid:
            open_ = torch.sigmoid(scores + self.floor) * there[..., None]
            attention = open_ / (1 + open_.sum(dim=1, keepdim=True))
        else:
            attention = scores.masked_fill(~there[..., None], -1e9).softmax(dim=1)
        slides = torch.einsum("bth,btd->bhd", attention, hidden)
        programmes = self._read(slides) if self.of.n_programmes else None
        if self.of.read_only:
            return self.mixer(programmes)[:, 0], programmes
        return self.classifier(slides.flatten(1))[:, 0], programmes

    def _read(self, slides: torch.Tensor) -> torch.Tensor:
        if not self.of.poles:
            return (slides * self.reader).sum(dim=-1) + self.shift
        points = self.projection(slides)
        points = normalize(points, dim=-1) if self.of.poles == "cosine" else points
        between = normalize(self.slots[1], dim=-1) - normalize(self.slots[0], dim=-1)
        return self.scale * (points * between).sum(dim=-1) + self.shift


def programmes_of(
    rna: np.ndarray, labels: np.ndarray, train: np.ndarray, n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the leading components, turned to the positive side, and how each weighs in the odds."""
    scores = _components(rna, train)
    odds = LogisticRegression(C=0.1, max_iter=1000).fit(scores[train], labels[train]).coef_[0, :n]
    turned = scores[:, :n] * np.where(odds < 0, -1, 1)
    return torch.tensor(turned).float(), torch.tensor(np.abs(odds) / np.abs(odds).mean()).float()


def _components(rna: np.ndarray, train: np.ndarray) -> np.ndarray:
    z = (rna - rna[train].mean(axis=0)) / (rna[train].std(axis=0) + 1e-6)
    axes = np.linalg.svd(z[train], full_matrices=False)[2][:16]
    return z @ axes.T / (z[train] @ axes.T).std(axis=0)


def odds_of(rna: np.ndarray, labels: np.ndarray, train: np.ndarray) -> torch.Tensor:
    """Give P(positive | RNA) of training cases, each by those of other folds."""
    found, places = np.zeros(len(labels)), np.flatnonzero(train)
    for fit, rest in StratifiedKFold(5, shuffle=True, random_state=0).split(places, labels[places]):
        mine = np.zeros_like(train)
        mine[places[fit]] = True
        scores, other = _components(rna, mine), places[rest]
        model = LogisticRegression(C=0.1, max_iter=1000).fit(scores[mine], labels[mine])
        found[other] = model.predict_proba(scores[other])[:, 1]
    return torch.tensor(found).float()


def train_and_score(cohort: dict[str, np.ndarray], of: Variant, seed: int) -> np.ndarray:
    """Train on the cohort, choose the epoch on a fifth of it, and score the new cases."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    labels, rna = cohort["train labels"], cohort["train rna"]
    train = np.ones(len(labels), bool)
    for label in (0, 1):
        own = draw.permutation(np.flatnonzero(labels == label))
        train[own[: int(0.2 * len(own))]] = False
    wanted, weights = programmes_of(rna, labels, train, max(1, of.n_programmes))
    target = torch.tensor(labels).float()
    if of.soft:
        target = 0.5 * target + 0.5 * odds_of(rna, labels, train)
    tiles, new = torch.tensor(cohort["train tiles"]), torch.tensor(cohort["new tiles"])
    there = torch.arange(tiles.shape[1]) < torch.tensor(cohort["train sizes"])[:, None]
    new_there = torch.arange(new.shape[1]) < torch.tensor(cohort["new sizes"])[:, None]
    network = Network(tiles.shape[2], of)
    steps = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=of.weight_decay)
    places, kept = np.flatnonzero(train), np.flatnonzero(~train)
    share = 0.5 / np.bincount(labels[places])[labels[places]]
    n_steps = len(places) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, of.epochs * n_steps)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(of.average)
    )
    scored = average.module if of.average else network
    best, smooth, patience = (-1.0, network.state_dict()), None, PATIENCE
    for epoch in range(of.epochs):
        network.train()
        for _ in range(n_steps):
            batch = torch.tensor(draw.choice(places, BATCH, p=share))
            seen = there[batch] & (torch.rand(BATCH, there.shape[1]) >= of.tile_drop)
            logits, programmes = network(tiles[batch], seen)
            loss = binary_cross_entropy_with_logits(logits, target[batch])
            loss = loss * float(epoch >= of.pre_epochs)
            if programmes is not None:
                missed = (programmes - wanted[batch]).square() * weights
                loss = loss + of.weight * missed.mean()
            steps.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5)
            steps.step()
            schedule.step()
            average.update_parameters(network)
        scored.eval()
        with torch.no_grad():
            area = roc_auc_score(labels[kept], scored(tiles[kept], there[kept])[0])
        smooth = area if smooth is None else SMOOTHING * smooth + (1 - SMOOTHING) * area
        if epoch < of.pre_epochs:
            continue
        patience = PATIENCE if smooth > best[0] else patience - 1
        if smooth > best[0]:
            best = (smooth, {k: v.clone() for k, v in scored.state_dict().items()})
        if not patience:
            break
    scored.load_state_dict(best[1])
    scored.eval()
    with torch.no_grad():
        parts = [
            scored(*part)[0] for part in zip(new.split(250), new_there.split(250), strict=True)
        ]
    return torch.cat(parts).numpy()


def print_table(path: Path) -> None:
    """Print a row a variant, best first: mean AUROC and what of the room over ABMIL it wins."""
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        found[one["variant"]][one["seed"]] = one
    plain, rows = found["ABMIL"], []
    for name, seeds in found.items():
        areas = [one["auroc"] for one in seeds.values()]
        gain = np.mean([seeds[s]["auroc"] - plain[s]["auroc"] for s in seeds])
        room = np.mean([plain[s]["ceiling"] - plain[s]["auroc"] for s in seeds])
        cells = (name, len(seeds), f"{np.mean(areas):.3f}", f"{gain:+.3f}", f"{gain / room:.0%}")
        rows.append((-float(np.mean(areas)), "| " + " | ".join(map(str, cells)) + " |"))
    print("| variant | seeds | AUROC | over ABMIL | headroom |\n|---|---|---|---|---|")
    print("\n".join(row for _, row in sorted(rows)))


def main() -> None:
    """Train the variants, a line of output each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="100,101,102")
    parser.add_argument("--scenario", default="default")
    parser.add_argument("--variants", default=";".join(VARIANTS), help="with semicolons between")
    parser.add_argument("--table", type=Path, help="print the means of this file instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("mechanisms.jsonl"))
    given = parser.parse_args()
    if given.table:
        print_table(given.table)
        return
    names = given.variants.split(";")
    if unknown := [name for name in names if name not in VARIANTS]:
        sys.exit(f"unknown: {'; '.join(unknown)}; there are {'; '.join(VARIANTS)}")
    torch.set_num_threads(1)
    for seed in map(int, given.seeds.split(",")):
        cohort = draw_cohort(given.scenario, seed)
        labels = cohort["new labels"]
        ceiling = roc_auc_score(labels, cohort["ceiling"])
        for name in names:
            of = VARIANTS[name]
            scores = [train_and_score(cohort, of, seed + 1000 * i) for i in range(of.members)]
            area = roc_auc_score(labels, np.mean(scores, axis=0))
            line = {"variant": name, "seed": seed, "auroc": area, "ceiling": ceiling}
            print(line, flush=True)
            with given.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
