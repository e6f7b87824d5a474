"""Trainings that one process does alone and two do together, and the two as processes."""

import threading
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from momkd.errors import InterruptedRunError
from momkd.fitting.device import make_fabric
from momkd.fitting.division import own_part
from momkd.fitting.joining import join_processes, leave_processes, open_meeting
from momkd.fitting.stepping import Stepper
from momkd.models.table import build_model
from momkd.nn.processes import Processes
from momkd.training import FitOptions, fit
from momkd.types import Dims, Sample
from tests.contract.test_models import DIM, N_GENES, SMALL, Samples, make_sample

_STILL = {"dropout": 0.0, "dropout_attention": 0.0, "dropout_rna": 0.0, "dropout_head": 0.0}
_MOMKD = {"dim": 16, "dim_shared": 8, "dim_rna": 8, "dim_rna_hidden": 12, "n_slots": 4, **_STILL}
_SMALL_ABMIL = {"dim": 16, "dim_attention": 8, "dropout": 0.0, "dropout_attention": 0.0}

KINDS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "momkd learned": ("momkd", None, _MOMKD),
    "momkd learned, plain kernels": ("momkd", None, _MOMKD),
    "momkd ema": ("momkd", None, {**_MOMKD, "memory_update": "ema", "revive_after": 2}),
    "momkd fixed": ("momkd", None, {**_MOMKD, "memory_update": "fixed"}),
    "momkd code": ("momkd", "code", {**_MOMKD, "dim_head": 8}),
    "momkd plus": ("momkd", "plus", {"dim": 8, "dim_gate": 4, "n_slots": 4, "dropout": 0.0}),
    "abmil": ("abmil", None, _SMALL_ABMIL),
    "wikg": ("wikg", None, {**SMALL["wikg"], "dropout": 0.0}),
    "transmil": ("transmil", None, {**SMALL["transmil"], "dropout": 0.0}),
    "dsmil": ("dsmil", None, {}),
    # one pseudo-bag: which tile falls into which is drawn
    "dtfd_mil": ("dtfd_mil", None, {**SMALL["dtfd_mil"], "n_bags": 1}),
    "g_hanet": ("g_hanet", None, {**SMALL["g_hanet"], "dropout": 0.0}),
}

_TRAIN = [make_sample(5 + i, i % 2, seed=i, rna=i % 5 != 0) for i in range(12)]
_RNA = [make_sample(None, i % 2, seed=50 + i) for i in range(4)]
_VAL = [make_sample(5 + i, i % 2, seed=100 + i) for i in range(7)]
OPTIONS = FitOptions(epochs=2, batch_size=5, stop_on_collapse=False, select="loss")


def _batches() -> list[list[Sample]]:
    """Ten batches in which the parts differ in size, modality and class."""
    t, r = _TRAIN, _RNA
    return [
        t[0:5],
        [t[5], r[0], t[6], r[1]],
        [r[0], r[1], t[7]],  # the first has RNA alone
        [t[8], t[9], r[2], r[3], r[0]],  # the second has
        r[0:3],  # no slide at all
        [t[10]],  # the second has nothing
        [r[3]],
        [t[0], t[5], t[10]],  # none of them has RNA
        [t[1], t[3], t[2], t[4]],  # a class each
        t[3:12],
    ]


def _build(label: str, kind: torch.dtype) -> Any:
    name, preset, options = KINDS[label]
    torch.manual_seed(1)
    model = build_model(name, Dims(dim_in=DIM, n_classes=2, n_genes=N_GENES), preset, options)
    if "plain" in label:
        from momkd.nn.graph_attention import choose_kernels

        model.use_kernels(choose_kernels("torch"))
    return model.to(kind)


def step_through(label: str, kind: torch.dtype, processes: Processes) -> dict[str, Any]:
    """Take ten steps; give the state and the figures of every step."""
    model = _build(label, kind)
    fabric = make_fabric("cpu", "32-true", processes)
    model.processes = processes
    stepper = Stepper(
        model,
        fabric,
        processes,
        seed=5,
        optimizer="adamw",
        lr=1e-3,
        betas=(0.9, 0.999),
        weight_decay=1e-2,
        clip_norm=1.0,
    )
    model.train()
    figures = []
    for step, batch in enumerate(_batches()):
        if not model.steps_on_rna_alone:
            batch = [s for s in batch if s.bag is not None]
        if batch:
            figures.append(stepper.take(own_part(batch, processes), 0, step, "batch"))
    return {"state": model.state_dict(), "figures": figures}


def whole_training(processes: Processes) -> dict[str, Any]:
    """Train by the loop, preparation and validation included."""
    model = _build("momkd ema", torch.float64)
    options = OPTIONS.model_copy(update={"devices": processes.size})
    train, val = Samples([*_TRAIN, *_RNA]), Samples(_VAL)
    fitted = fit(model, train, val, options, seed=3, processes=processes)
    history = {f"{i} {k}": v for i, row in enumerate(fitted.history) for k, v in row.items()}
    return {"state": fitted.model.state_dict(), "history": history}


def do_all(processes: Processes) -> dict[str, Any]:
    """Give what every training ends with, by its name."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"fit": whole_training(processes)}
    for label in KINDS:
        found[label] = step_through(label, torch.float64, processes)
    found["abmil, single"] = step_through("abmil", torch.float32, processes)
    found["momkd ema, single"] = step_through("momkd ema", torch.float32, processes)
    return found


def do_all_and_part(processes: Processes) -> dict[str, Any]:
    """Do all, and then leave the first process by itself; it keeps what it is told."""
    found = do_all(processes)
    if processes.rank:
        leave_processes()
        return found
    try:
        processes.collect("hello")
    except InterruptedRunError as error:
        found["last word"] = str(error)
    return found


def _serve(rank: int, size: int, port: int, folder: Path, work: Callable[[Processes], Any]) -> None:
    processes = join_processes(port, rank, size, "cpu")
    torch.save(work(processes), folder / f"{rank}.pt")
    leave_processes()


def do_together(folder: Path, work: Callable[[Processes], Any], size: int = 2) -> list[Any]:
    """Let several processes do some work; give what each ends with."""
    meeting, context = open_meeting(), get_context("spawn")
    members = [
        context.Process(target=_serve, args=(rank, size, meeting.port, folder, work))
        for rank in range(size)
    ]
    for member in members:
        member.start()
    watch = threading.Timer(120, lambda: [m.kill() for m in members])
    watch.start()
    for member in members:
        member.join()
    watch.cancel()
    assert [m.exitcode for m in members] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]
