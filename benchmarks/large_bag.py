"""Time and memory of one training step and one prediction on one very large slide.

    python benchmarks/large_bag.py --tiles 50000 --dim 1536 --model momkd --preset paper \
        -o benchmarks/results/large_bag.json

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momkd import storage
from momkd.data.graph import nearest_neighbours
from momkd.models.table import build_model
from momkd.types import Bag, Dims, Sample, SampleKey, TileGrid

_TILE_PX0 = 512
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured."""

    tiles: int
    dim: int
    model: str
    preset: str | None
    genes: int
    k: int
    threads: int
    seed: int


def peak_bytes() -> int:
    """Give the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def ragged_lattice(n_tiles: int, rng: np.random.Generator) -> np.ndarray:
    """Give n places on a 512 px lattice: a round section with a frayed edge and a few holes."""
    side = int(np.ceil(1.5 * np.sqrt(n_tiles))) + 2
    y, x = np.divmod(np.arange(side * side), side)
    centre = (side - 1) / 2
    depth = np.hypot(y - centre, x - centre) + rng.normal(0, side / 60, side * side)
    for hole in rng.uniform(0.2 * side, 0.8 * side, (6, 2)):
        depth[np.hypot(y - hole[0], x - hole[1]) < side / 25] = np.inf
    kept = np.sort(np.argsort(depth, kind="stable")[:n_tiles])
    return _TILE_PX0 * np.stack([x[kept], y[kept]], axis=1).astype(np.int64)


def make_bag(n_tiles: int, task: Task, seconds: dict[str, float]) -> Bag:
    """Make a random bag; places and neighbours first, so that the embeddings set the peak."""
    coords_px0 = ragged_lattice(n_tiles, np.random.default_rng(task.seed))
    start = time.perf_counter()
    neighbours = nearest_neighbours(coords_px0, task.k)
    seconds["neighbours"] = time.perf_counter() - start
    generator = torch.Generator().manual_seed(task.seed)
    return Bag(
        slide_id=f"random-{n_tiles}",
        embeddings=torch.randn(n_tiles, task.dim, generator=generator),
        grid=TileGrid(slide_id=f"random-{n_tiles}", coords_px0=coords_px0, tile_px0=_TILE_PX0),
        neighbours=torch.from_numpy(neighbours),
    )


class Pair:
    """The large bag and a small one of the other class: what ``prepare`` starts from."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.keys = [
            SampleKey(case_id=s.case_id, slide_id=s.bag.slide_id, label=s.label, has_rna=True)
            for s in samples
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def rna(self, index: int) -> Any:
        """Give the RNA of one sample."""
        return self.samples[index].rna

    def iterate(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Give samples in order."""
        for index in indices:
            yield self[index]

    @property
    def wait_s(self) -> float:
        """Nothing is read."""
        return 0.0


def measure_training(task: Task) -> dict[str, Any]:
    """Prepare the model and take two optimiser steps; the second is the warm one."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    seconds: dict[str, float] = {}
    few = make_bag(min(task.tiles, 500), task, seconds)
    bags = [make_bag(task.tiles, task, seconds), few]
    samples = [
        Sample(case_id=bag.slide_id, label=label, bag=bag, rna=torch.randn(task.genes))
        for bag, label in zip(bags, (1, 0), strict=True)
    ]
    dims = Dims(dim_in=task.dim, n_classes=2, n_genes=task.genes)
    model = build_model(task.model, dims, task.preset)
    inputs = peak_bytes()

    def clocked(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    clocked("prepare", lambda: model.prepare(Pair(samples)))
    model.train()
    decayed, kept = model.decay_groups()
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-4}, {"params": kept, "weight_decay": 0.0}], lr=2e-4
    )
    for name in ("first", "second"):
        losses = clocked(f"{name}_losses", lambda: model.losses(samples[:1]))
        optimiser.zero_grad()
        clocked(f"{name}_backward", losses.total.backward)
        clocked(f"{name}_optimiser", optimiser.step)
        model.after_step(losses)
    if not torch.isfinite(losses.total):
        raise ArithmeticError("the loss is not finite: nothing was measured")
    return _measured(seconds, inputs)


def measure_prediction(task: Task) -> dict[str, Any]:
    """Score the bag twice from histology; the second pass is the warm one."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    seconds: dict[str, float] = {}
    bag = make_bag(task.tiles, task, seconds)
    model = build_model(task.model, Dims(dim_in=task.dim, n_classes=2), task.preset).eval()
    inputs = peak_bytes()
    with torch.inference_mode():
        for name in ("first_forward", "second_forward"):
            start = time.perf_counter()
            output = model(bag)
            seconds[name] = time.perf_counter() - start
    if len(output.attention) != task.tiles or not torch.isfinite(output.logits).all():
        raise ArithmeticError("the output is not one of this bag: nothing was measured")
    return _measured(seconds, inputs)


def _measured(seconds: dict[str, float], inputs: int) -> dict[str, Any]:
    peak = peak_bytes()
    return {
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "peak_mib": round(peak / _MIB, 1),
        "above_inputs_mib": round((peak - inputs) / _MIB, 1),
    }


def machine() -> dict[str, Any]:
    """Say what kind of machine this is, without naming it."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        cpu = next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "n_cpus": multiprocessing.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--model", default="momkd")
    parser.add_argument("--preset", choices=["paper", "code"], help="default: the model's own")
    parser.add_argument("--genes", type=int, default=768)
    parser.add_argument("--k", type=int, default=8, help="neighbours a tile")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="also write the result here, as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = vars(parse_arguments())
    output = arguments.pop("output")
    task = Task(**arguments)
    result: dict[str, Any] = {"task": arguments}
    fresh = multiprocessing.get_context("spawn")
    for name, measure in (("training", measure_training), ("prediction", measure_prediction)):
        with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
            result[name] = pool.submit(measure, task).result()
    result["machine"] = machine()
    result["date"] = datetime.now(timezone.utc).date().isoformat()

    print(storage.canonical_json(result), end="")
    if output is not None:
        storage.write_json(output, result)


if __name__ == "__main__":
    main()
