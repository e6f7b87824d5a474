"""A whole epoch, slides read from disk: load and step together, and loading alone.

    python benchmarks/epoch.py --threads 2 --reference DIR -o benchmarks/results/epoch

Twelve slides of 1,000 to 15,000 tiles, in two forms: TRIDENT's HDF5 layout (a chunk a row) with the
edges beside it, gzipped, as the published code reads them; and packed once, as `momkd pack` does,
to be mapped. The arms take turns, each in a process of its own; files are in the page cache.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from large_bag import machine, make_bag
from speed_arms import Arm, Case, listed_edges, make_model

from momkd import storage
from momkd.data.packed_cache import PackedCache
from momkd.types import Bag, SlideFile

_SPAWN = multiprocessing.get_context("spawn")
K = 8


def write_slides(folder: Path, case: Case, n_slides: int) -> list[SlideFile]:
    """Write slides in TRIDENT's layout with gzipped edges beside, and pack them."""
    sizes = np.random.default_rng(0).lognormal(np.log(6000), 0.7, n_slides).clip(1000, 15_000)
    files = []
    cache = PackedCache(folder / "packed", precision="float16", neighbours=K)
    for number, n_tiles in enumerate(sizes.astype(int)):
        path = folder / f"slide-{number}.h5"
        bag = make_bag(int(n_tiles), case, {})  # type: ignore[arg-type]
        assert bag.grid is not None
        assert bag.neighbours is not None
        with h5py.File(path, "w") as file:
            x = bag.embeddings.numpy()
            file.create_dataset("features", data=x, chunks=(1, case.dim), maxshape=(None, case.dim))
            coords = file.create_dataset("coords", data=bag.grid.coords_px0)
            coords.attrs["patch_size_level0"] = 512
        edges = listed_edges(bag.neighbours).numpy()
        with h5py.File(path.with_suffix(".edges"), "w") as file:
            file.create_dataset("edge_index", data=edges, compression="gzip")
        sha256 = storage.digest_bytes(path.read_bytes())
        found = SlideFile(
            slide_id=path.stem, path=path, sha256=sha256, n_tiles=int(n_tiles), dim=case.dim
        )
        cache.update(found)
        files.append(found)
    return files


def read_published(file: SlideFile) -> tuple[torch.Tensor, torch.Tensor]:
    """Read embeddings and edges as its dataset does, with the copy that collating makes."""
    with h5py.File(file.path, "r") as opened:
        x = torch.from_numpy(opened["features"][:])
    with h5py.File(file.path.with_suffix(".edges"), "r") as opened:
        edges = torch.from_numpy(opened["edge_index"][:])
    return torch.stack([x])[0], torch.stack([edges])[0]


def reader_of(kind: str, folder: Path) -> Callable[[SlideFile], Any]:
    """Give how an arm reads a slide."""
    if kind == "reference":
        return read_published
    cache = PackedCache(folder / "packed", precision="float16", neighbours=K)
    return lambda file: cache.read(file, k=K)


def touch(loaded: Any) -> None:
    """Let a mapped slide come into memory: a sum of what a step would read."""
    x = loaded.embeddings if isinstance(loaded, Bag) else loaded[0]
    torch.from_numpy(x.numpy().view(np.uint8).reshape(-1)[::4096].copy()).sum()


def serve(case: Case, arm: Arm, folder: Path, files: list[SlideFile], pipe: Connection) -> None:
    """Be the process of one arm: an epoch, or loading alone, whenever asked."""
    from momkd.fitting.allocator import keep_freed_memory

    torch.set_num_threads(case.threads)
    if arm.keeps_memory:
        keep_freed_memory()
    read = reader_of(arm.kind, folder)
    model = make_model(case, arm)
    pipe.send("ready")
    while (what := pipe.recv()) is not None:
        wall, cpu = time.perf_counter(), time.process_time()
        for file in files:
            loaded = read(file)
            if what == "epoch":
                model.hold(loaded)
                model.train()
            else:
                touch(loaded)
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the arms take turns; give medians, and ratios within a round."""
    case = Case(
        tiles=1000, dim=given.dim, genes=768, threads=given.threads, reference=given.reference
    )
    arms = [Arm(kind="reference", keeps_memory=kept) for kept in (False, True)]
    arms += [Arm(kind="exact"), Arm(kind="fast")]
    names = ["published stock", "published", "exact", "fast"]
    files = write_slides(folder, case, given.slides)
    pipes, processes = [], []
    for arm in arms:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=serve, args=(case, arm, folder, files, theirs), daemon=True)
        process.start()
        ours.recv()
        pipes.append(ours)
        processes.append(process)
    table: dict[str, Any] = {}
    for what in ("load", "epoch"):
        rounds = []
        for turn in range(given.rounds + 1):
            row = []
            for pipe in pipes:
                pipe.send(what)
                row.append(pipe.recv())
            rounds += [row] if turn else []  # the first one warms up
        for clock, place in (("wall", 0), ("cpu", 1)):
            for number, name in enumerate(names):
                cell = {"s": statistics.median(r[number][place] for r in rounds)}
                for base in (0, 1):
                    ratios = [r[base][place] / r[number][place] for r in rounds]
                    cell[f"x {names[base]}"] = statistics.median(ratios)
                table[f"{what} {clock} {name}"] = cell
    for pipe in pipes:
        pipe.send(None)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "case": asdict(case) | {"reference": None, "tiles": [f.n_tiles for f in files]},
        "load": os.getloadavg(),
        "table": table,
    }


def markdown(found: dict[str, Any]) -> str:
    """Set what was found as a page."""
    sizes = found["case"]["tiles"]
    lines = [
        "# A whole epoch from disk",
        "",
        f"{found['date']}, {found['machine']['cpu']}, torch {found['machine']['torch']}, "
        f"{found['case']['threads']} thread(s), load {found['load'][0]:.1f}. {len(sizes)} slides, "
        f"{sum(sizes)} tiles of {found['case']['dim']}; files in the page cache. Medians over "
        "rounds in which the arms take turns; ratios within a round.",
        "",
        "| what | seconds | x published stock | x published, memory kept |",
        "|---|---|---|---|",
    ]
    for name, cell in found["table"].items():
        lines.append(
            f"| {name} | {cell['s']:.3f} | {cell['x published stock']:.2f} "
            f"| {cell['x published']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference", required=True, help="folder of the published code")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/epoch"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(given, Path(folder))
    storage.write_json(given.output.with_suffix(".json"), found)
    storage.write_text(given.output.with_suffix(".md"), markdown(found))
    print(markdown(found), end="")


if __name__ == "__main__":
    main()
