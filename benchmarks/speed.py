"""Speed and memory of MoMKD's step and of inference, as ratios of interleaved rounds.

    python benchmarks/speed.py --sizes 2000 8000 --rounds 7 -o benchmarks/results/speed
    python benchmarks/speed.py --reference ~/MoMKD ...        # the published code, if you have it
    python benchmarks/speed.py --device cuda --batch 16 -o benchmarks/results/speed_cuda ...

Arms, one process each (on a CUDA device all in one), take turns: the published code (stock, and
with freed memory kept), the same model with torch_geometric's layers (both), ours on plain torch,
``exact`` and ``fast``. A ratio is the median over rounds of a baseline's time to an arm's in the
same round. Nothing is timed whose outputs and gradients do not agree. ``make bench`` runs the
default.
"""

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from large_bag import machine, ragged_lattice
from speed_arms import SIZES, Arm, Case, Worker, measure_memory, serve

from momkd import storage
from momkd.compilation import numba_version, triton_version
from momkd.data import graph

_SPAWN = multiprocessing.get_context("spawn")
BUSY = 1.15  # wall over CPU time of one thread from which a round says nothing


def arms_of(reference: str | None, device: str) -> list[Arm]:
    """Give the arms; baselines first. On a CUDA device freed memory stays with torch anyway."""
    kinds = ["reference"] if reference else []
    if device != "cpu":
        return [Arm(kind=kind) for kind in (*kinds, "pyg", "plain", "exact", "fast")]
    baselines = [Arm(kind=k, keeps_memory=kept) for k in [*kinds, "pyg"] for kept in (False, True)]
    return [*baselines, *(Arm(kind=kind) for kind in ("plain", "exact", "fast"))]


@contextlib.contextmanager
def started(case: Case, arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """Run a process for each arm; give the pipes to them.

    On a CUDA device, where the allocator is torch's own and starting up takes long, all arms stand
    in this process.
    """
    if case.device == "cuda":
        yield {arm.name: Worker(case, arm) for arm in arms}
        return
    pipes, processes = {}, []
    try:
        for arm in arms:
            pipes[arm.name], theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=serve, args=(case, arm, theirs), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes[arm.name].recv()
        yield pipes
    finally:
        for pipe in pipes.values():
            with contextlib.suppress(OSError):
                pipe.send(None)
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()


def ask(pipe: Any, what: str) -> Any:
    """Tell an arm to do something, and wait."""
    pipe.send(what)
    return pipe.recv()


def gate(pipes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Compare every arm with plain torch; refuse to time one that is another model."""
    answers = {name: ask(pipe, "answer") for name, pipe in pipes.items()}
    oracle = answers["plain"]
    errors: dict[str, dict[str, float]] = {}
    for name, answer in answers.items():
        outputs = [k for k in answer if not k.startswith("gradient")]
        found = {"output": max(float(np.abs(answer[k] - oracle[k]).max()) for k in outputs)}
        gradients = [k for k in answer if k.startswith("gradient")]
        if gradients:
            found["gradient"] = max(_relative(answer[k], oracle[k]) for k in gradients)
        errors[name] = found
        limits = (0.02, 0.2) if name == "fast" else (1e-4 if name == "reference" else 1e-5, 1e-4)
        if found["output"] > limits[0] or found.get("gradient", 0.0) > limits[1]:
            raise ArithmeticError(f"arm {name} is another model: {found}; nothing was measured")
    return errors


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-12))


def time_rounds(
    case: Case, pipes: dict[str, Any], what: str, n_rounds: int
) -> dict[str, dict[str, Any]]:
    """Let the arms take turns; give each arm's times, and its ratios to the baselines."""
    for pipe in pipes.values():
        for _ in range(2):
            ask(pipe, what)
    rounds = [{name: ask(pipe, what) for name, pipe in pipes.items()} for _ in range(n_rounds)]
    alone = case.threads == 1 and case.device == "cpu"
    busy = [alone and any(w / c > BUSY for w, c in row.values()) for row in rounds]
    table: dict[str, dict[str, Any]] = {}
    for name in pipes:
        row: dict[str, Any] = {"wall_s": statistics.median(r[name][0] for r in rounds)}
        row["cpu_s"] = statistics.median(r[name][1] for r in rounds)
        for baseline in pipes:
            if not baseline.startswith(("reference", "pyg", "plain")) or baseline == name:
                continue
            for place, clock in enumerate(("wall", "cpu")):
                ratios = [r[baseline][place] / r[name][place] for r in rounds]
                low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
                row[f"x_{baseline}_{clock}"] = [middle, low, high]
        table[name] = row
    return {"arms": table, "rounds": {"n": n_rounds, "busy": sum(busy)}}


def memory_of(case: Case, arm: Arm, what: str) -> tuple[int, int]:
    """Give an arm's peak above its inputs, and its process's peak, in a fresh process."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=measure_memory, args=(case, arm, what, theirs))
    process.start()
    theirs.close()
    answer = ours.recv()
    process.join()
    return answer


def ceilings(threads: int, device: str) -> dict[str, float]:
    """Give the speed of a large product in operations a second: what no step can beat."""
    torch.set_num_threads(threads)
    found = {}
    for name, kind in (("exact", torch.float32), ("fast", torch.bfloat16)):
        a = torch.randn(4096, 1536, device=device).to(kind)
        b = torch.randn(1536, 768, device=device).to(kind)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            a @ b
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        found[name] = 2 * 4096 * 1536 * 768 / min(times)
    return found


def operations(case: Case) -> dict[str, float]:
    """Count the operations of the products of one pass over a bag."""
    dim, shared = SIZES["dim"], SIZES["dim_shared"]
    first, second = 2 * case.dim * 3 * dim, 2 * dim * 2 * dim
    third = 2 * dim * shared
    forward = first + second + third
    return {
        "infer": case.batch * case.tiles * forward,
        "train": case.batch * case.tiles * (forward + first + 2 * second + 2 * third),
    }


def time_graph(n_tiles: int) -> dict[str, float]:
    """Time the search of 8 neighbours: compiled, with arrays, and scikit-learn's (milliseconds)."""
    from sklearn.neighbors import kneighbors_graph

    xy = ragged_lattice(n_tiles, np.random.default_rng(0)).astype(np.int64)
    xy = np.ascontiguousarray(xy - xy.min(axis=0))
    compiled = graph.compiled_search()
    ways = {
        "arrays": lambda: graph.search_arrays(xy, 8),
        "sklearn": lambda: kneighbors_graph(xy, 8, n_jobs=1),
    }
    if compiled is not None:
        ways["compiled"] = lambda: compiled(xy, 8)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(6):
        for name, way in ways.items():
            start = time.process_time()
            way()
            found[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    arms = arms_of(options.reference, options.device)
    on_card = options.device == "cuda"
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {
            **machine(),
            "numba": numba_version(),
            "libc": " ".join(platform.libc_ver()),
            **(
                {"card": torch.cuda.get_device_name(), "triton": triton_version()}
                if on_card
                else {}
            ),
        },
        "device": options.device,
        "threads": options.threads,
        "batch": options.batch,
        "load_before": os.getloadavg(),
        "ceiling": ceilings(options.threads, options.device),
        "sizes": {},
    }
    for n_tiles in options.sizes:
        case = Case(
            tiles=n_tiles,
            dim=options.dim,
            genes=options.genes,
            threads=options.threads,
            reference=options.reference,
            device=options.device,
            batch=options.batch,
        )
        found: dict[str, Any] = {"operations": operations(case), "graph_ms": time_graph(n_tiles)}
        with started(case, arms) as pipes:
            found["errors"] = gate(pipes)
            for what in ("train", "infer"):
                found[what] = time_rounds(case, pipes, what, options.rounds)
                if on_card:
                    peaks = {name: ask(pipe, f"peak of {what}") for name, pipe in pipes.items()}
                    found[f"memory_{what}"] = peaks
        if not on_card:
            for what in ("train", "infer"):
                found[f"memory_{what}"] = {a.name: memory_of(case, a, what) for a in arms}
        result["sizes"][str(n_tiles)] = found
        print(f"{n_tiles} tiles: done, load {os.getloadavg()[0]:.1f}", flush=True)
    result["load_after"] = os.getloadavg()
    return result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 8_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--genes", type=int, default=768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="bags in a step")
    parser.add_argument("--reference", help="folder of the published code")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/speed"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device")
    return options


def main() -> None:
    from speed_report import draw, write_table

    options = parse_arguments()
    result = run(options)
    storage.write_json(options.output.with_suffix(".json"), result)
    print(write_table(result, options.output.with_suffix(".md")))
    draw(result, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
