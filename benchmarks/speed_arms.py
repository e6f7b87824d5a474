"""The arms of ``speed.py``: one process an arm, which does one step when it is told to.

Every arm computes the same model (preset ``code`` at the sizes of the paper) on the same bag. The
published code is not part of this repository: it is imported from a folder the user has.
"""

import copy
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from large_bag import make_bag
from torch import Tensor, nn

from momkd.fitting.allocator import keep_freed_memory
from momkd.models.momkd import MoMKD
from momkd.models.table import build_model
from momkd.nn.graph_attention import KernelChoice, TileGraph, choose_kernels
from momkd.types import Bag, Dims, Sample

SIZES = {"dim": 256, "dim_rna": 256, "dim_shared": 128}
NO_DROPOUT = {"dropout": 0, "dropout_attention": 0, "dropout_rna": 0, "dropout_head": 0}
CLIP, LR, DECAY = 16.0, 2e-4, 1e-4


@dataclass(frozen=True, kw_only=True)
class Case:
    """What all arms of one comparison have in common."""

    tiles: int
    dim: int
    genes: int
    threads: int
    k: int = 8
    seed: int = 0
    reference: str | None = None
    device: str = "cpu"
    batch: int = 1  # bags of that size in a step; the published code takes them one by one


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of computing: its kind, and whether freed memory stays with the process."""

    kind: str
    keeps_memory: bool = True

    @property
    def name(self) -> str:
        """How tables call it."""
        stock = self.kind in ("reference", "pyg") and not self.keeps_memory
        return f"{self.kind} stock" if stock else self.kind


class PyGEncoder(nn.Module):
    """The encoder with torch_geometric's layers, and edges as it wants them."""

    def __init__(self, like: nn.Module) -> None:
        from torch_geometric.nn import GATv2Conv

        super().__init__()
        self.kernels = KernelChoice()
        layers = []
        for ours in (like.graph_1, like.graph_2):
            n_heads, dim_head = ours.attention.shape
            layer = GATv2Conv(
                ours.source.in_features, dim_head, heads=n_heads, dropout=ours.dropout
            )
            with torch.no_grad():
                layer.att.copy_(ours.attention[None])
                layer.bias.copy_(ours.bias)
                layer.lin_l.load_state_dict(ours.source.state_dict())
                layer.lin_r.load_state_dict(ours.target.state_dict())
            layers.append(layer)
        self.graph_1, self.graph_2 = layers
        self.residual = copy.deepcopy(like.residual)
        self.norm_1, self.norm_2 = copy.deepcopy(like.norm_1), copy.deepcopy(like.norm_2)
        self.dropout = nn.Dropout(like.dropout.p)
        self._edges: dict[int, Tensor] = {}

    def parameters_in_order(self) -> list[Tensor]:
        """Give all parameters."""
        return list(self.parameters())

    def forward(self, x: Tensor, graph: TileGraph, *, seed: int | None = None) -> Tensor:
        """Encode; the edge list is made once a bag and is not part of a step."""
        edges = self._edges.get(len(x))
        if edges is None:
            edges = self._edges[len(x)] = edge_index(graph.lists)
        elu = nn.functional.elu
        first = self.dropout(elu(self.norm_1(self.graph_1(x, edges)))) + self.residual(x)
        second = self.dropout(elu(self.norm_2(self.graph_2(first, edges)))) + first
        return torch.maximum(first, second)


def edge_index(lists: Tensor) -> Tensor:
    """Give (source, target) of every edge but those of a tile to itself."""
    target, place = (lists[:, 1:] >= 0).nonzero(as_tuple=True)
    return torch.stack([lists[target, place + 1], target])


def listed_edges(neighbours: Tensor) -> Tensor:
    """Give (tile, listed tile) of every edge, as the published code stores them."""
    lister, place = (neighbours >= 0).nonzero(as_tuple=True)
    return torch.stack([lister, neighbours[lister, place].long()])


def build(case: Case, kind: str, **options: Any) -> MoMKD:
    """Build the model of an arm; the same weights for every arm."""
    torch.manual_seed(case.seed)
    dims = Dims(dim_in=case.dim, n_classes=2, n_genes=case.genes)
    model = build_model("momkd", dims, "code", {**SIZES, **options})
    assert isinstance(model, MoMKD)
    if kind == "pyg":
        model.encoder = PyGEncoder(model.encoder)
    elif kind in ("exact", "fast"):
        choice = choose_kernels(device=case.device, products=kind)  # type: ignore[arg-type]
        if choice.note:
            raise SystemExit(f"arm {kind}: {choice.note}")
        model.use_kernels(choice)
    else:
        model.use_kernels(KernelChoice())
    return model.to(case.device)


class OwnModel:
    """One of our arms: step, inference, and what the gate compares."""

    def __init__(self, case: Case, kind: str, bag: Bag, rna: Tensor) -> None:
        self._case, self._kind, self._rna = case, kind, rna
        self.hold(bag)
        self._model = build(case, kind).train()
        self._parameters = list(self._model.parameters())
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=LR, weight_decay=DECAY, fused=kind != "pyg"
        )

    def hold(self, bag: Bag) -> None:
        """Take a bag for what comes."""
        self._bag = bag
        sample = Sample(case_id="a", label=1, bag=bag, rna=self._rna)
        self._samples = [
            replace(sample, case_id=f"case {i}", label=(i + 1) % 2) for i in range(self._case.batch)
        ]

    def train(self) -> None:
        """Take a whole step: losses, gradient, clipping, move."""
        losses = self._model.losses(self._samples)
        self._optimiser.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._optimiser.step()
        with torch.no_grad():
            self._model.after_step(losses)

    def infer(self) -> None:
        """Score the bags from histology."""
        self._model.eval()
        with torch.inference_mode():
            self._model.forward_packed([self._bag] * self._case.batch)
        self._model.train()

    def answer(self) -> dict[str, np.ndarray]:
        """Give logits, attention, and loss and gradient for both labels, without dropout."""
        model = build(self._case, self._kind, **NO_DROPOUT).eval()
        with torch.no_grad():
            output = model(self._bag)
        found = {"logits": output.logits, "attention": output.attention}
        for label in (0, 1):
            sample = Sample(case_id="a", label=label, bag=self._bag, rna=self._samples[0].rna)
            model.zero_grad()
            total = model.losses([sample]).total
            total.backward()
            found[f"loss_{label}"] = total.detach()[None]
            for part in ("encoder", "tile_projection", "memory", "head", "rna_encoder"):
                grads = [
                    p.grad.flatten()
                    for p in getattr(model, part).parameters()
                    if p.grad is not None
                ]
                # in the order of sizes: torch_geometric's names come in another order
                grads.sort(key=lambda g: (g.numel(), float(g.abs().sum())))
                found[f"gradient_{label}_{part}"] = torch.cat(grads)
        return {name: value.cpu().numpy() for name, value in found.items()}


class PublishedModel:
    """The published code, imported from a folder; its model, loss and optimiser as they stand."""

    def __init__(self, case: Case, bag: Bag, rna: Tensor) -> None:
        sys.path.insert(0, str(Path(case.reference or "").resolve()))
        from models.mkd import MKD
        from utils.Mkd_train_utils import PrototypicalAlignmentLoss

        self._case = case
        self._model = MKD(rna_input_dim=case.genes, wsi_input_dim=case.dim, num_memory_per_class=16)
        self._model = self._model.to(case.device).train()
        self._ours = build(case, "plain")
        _copy_weights(self._ours, self._model)
        self._align = PrototypicalAlignmentLoss(margin=0.3)
        self._rna, self._label = rna[None], torch.tensor([1], device=case.device)
        assert bag.neighbours is not None
        self.hold((bag.embeddings, listed_edges(bag.neighbours)))
        self._optimiser = torch.optim.AdamW(self._model.parameters(), lr=LR, weight_decay=DECAY)

    def hold(self, slide: tuple[Tensor, Tensor]) -> None:
        """Take embeddings and edges for what comes."""
        self._slide = slide

    def train(self) -> None:
        """Take steps as its loop does, one a bag."""
        for _ in range(self._case.batch):
            self._step()

    def _step(self) -> None:
        """Take a step with its weights of the terms."""
        out = self._model.forward_train(self._rna, self._slide, self._label)
        centres = out["pos_centers"], out["neg_centers"]
        align = self._align(out["rna_proj"], out["wsi_proj"], *centres, self._label)
        ce = nn.functional.cross_entropy(out["logits"], self._label)
        mse = nn.functional.mse_loss(out["reconstructed_rna"], self._rna)
        terms = [(0.5, ce), (0.1, out["mem_loss"]), (0.05, align["rna"]), (0.2, align["wsi"])]
        loss = sum(weight * term for weight, term in [*terms, (0.05, mse)])
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad()
        for _, term in terms:
            term.sum().item()

    def infer(self) -> None:
        """Score the bags one by one."""
        self._model.eval()
        for _ in range(self._case.batch):
            self._model.forward_inference(self._slide)
        self._model.train()

    def answer(self) -> dict[str, np.ndarray]:
        """Give logits and attention with the weights of the other arms."""
        self._model.eval()
        logits, attention = self._model.forward_inference(self._slide)
        self._model.train()
        found = {"logits": logits[0], "attention": attention.flatten()}
        return {name: value.cpu().numpy() for name, value in found.items()}


_NAMES = {
    "wsi_encoder.gat1.lin_l": "encoder.graph_1.source",
    "wsi_encoder.gat1.lin_r": "encoder.graph_1.target",
    "wsi_encoder.gat2.lin_l": "encoder.graph_2.source",
    "wsi_encoder.gat2.lin_r": "encoder.graph_2.target",
    "wsi_encoder.gat1.att": "encoder.graph_1.attention",
    "wsi_encoder.gat2.att": "encoder.graph_2.attention",
    "wsi_encoder.gat1": "encoder.graph_1",
    "wsi_encoder.gat2": "encoder.graph_2",
    "wsi_encoder.res_proj1": "encoder.residual",
    "wsi_encoder.ln": "encoder.norm_",
    "wsi_patch_projector": "tile_projection",
    "wsi_classifier_proto": "head",
    "attn_log_tau": "log_temperature",
}


def _copy_weights(ours: MoMKD, published: nn.Module) -> None:
    """Give the published model the weights with which a slide is scored."""
    state = ours.state_dict()
    with torch.no_grad():
        for name, parameter in published.named_parameters():
            theirs = next((key for key in _NAMES if name.startswith(key)), None)
            if name.startswith("mem_"):
                slots = state["memory.slots"][int(name.startswith("mem_pos"))]
                parameter.copy_(slots.view_as(parameter))
            elif theirs is not None:
                value = state[_NAMES[theirs] + name.removeprefix(theirs)]
                parameter.copy_(value.view_as(parameter))


def make_model(case: Case, arm: Arm) -> Any:
    """Make the bag and the model of an arm."""
    bag = make_bag(case.tiles, case, {}).to(torch.device(case.device))  # type: ignore[arg-type]
    rna = torch.randn(case.genes, generator=torch.Generator().manual_seed(case.seed))
    if arm.kind == "reference":
        return PublishedModel(case, bag, rna.to(case.device))
    return OwnModel(case, arm.kind, bag, rna.to(case.device))


def finish(case: Case) -> None:
    """Wait until the device has done what it was told."""
    if case.device == "cuda":
        torch.cuda.synchronize()


class Worker:
    """One arm at work; answers like the end of a pipe, so that it may stand in this process."""

    def __init__(self, case: Case, arm: Arm) -> None:
        torch.set_num_threads(case.threads)
        if arm.keeps_memory:
            keep_freed_memory()
        self._case = case
        self._model = make_model(case, arm)
        self._answer: Any = None

    def send(self, what: str | None) -> None:
        """Do something: ``answer``, ``train``, ``infer``, or one of these after ``peak of``."""
        if what is None:
            return
        if what == "answer":
            self._answer = self._model.answer()
        elif what.startswith("peak of "):
            self._answer = self._peak(getattr(self._model, what.removeprefix("peak of ")))
        else:
            self._answer = self._time(getattr(self._model, what))

    def recv(self) -> Any:
        """Give what came of it."""
        return self._answer

    def _time(self, work: Callable[[], Any]) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        finish(self._case)
        return time.perf_counter() - wall, time.process_time() - cpu

    def _peak(self, work: Callable[[], Any]) -> tuple[int, int]:
        """Give the peak on a CUDA device above what stood there, and the whole, in bytes."""
        stood = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            work()
        finish(self._case)
        peak = torch.cuda.max_memory_allocated()
        return peak - stood, peak


def serve(case: Case, arm: Arm, pipe: Connection) -> None:
    """Be the process of one arm: do what the other end says until it says nothing more."""
    worker = Worker(case, arm)
    pipe.send("ready")
    while (what := pipe.recv()) is not None:
        worker.send(what)
        pipe.send(worker.recv())


def measure_memory(case: Case, arm: Arm, what: str, pipe: Connection) -> None:
    """Give the peak above what stands before, and the process's peak, in bytes; Linux only."""
    torch.set_num_threads(case.threads)
    if arm.keeps_memory:
        keep_freed_memory()
    model = make_model(case, arm)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(2):
        getattr(model, what)()
    above = _status("VmHWM") - before
    pipe.send((above, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    os._exit(0)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise KeyError(field)
