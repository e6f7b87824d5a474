"""Where the time of a training step or an inference goes: a profile of one arm of ``speed.py``.

    python benchmarks/profile_step.py --tiles 8000 --arm fast --device cuda -o profile.md

Says what bounds a figure of the speed tables: kernels on the device, or the host that starts them.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from speed_arms import Arm, Case, finish, make_model
from torch.profiler import ProfilerActivity, profile

from momkd import storage
from momkd.fitting.allocator import keep_freed_memory

N_STEPS = 10


def measure(case: Case, kind: str, what: str, n_rows: int) -> str:
    """Profile some steps; give a table of what takes longest, and the totals."""
    torch.set_num_threads(case.threads)
    keep_freed_memory()
    work = getattr(make_model(case, Arm(kind=kind)), what)
    for _ in range(3):
        work()
    finish(case)
    started = time.perf_counter()
    for _ in range(N_STEPS):
        work()
    finish(case)
    wall_ms = 1e3 * (time.perf_counter() - started) / N_STEPS
    on_card = case.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities) as found:
        for _ in range(N_STEPS):
            work()
        finish(case)
    own = "self_device_time_total" if on_card else "self_cpu_time_total"
    rows = [r for r in found.key_averages() if not on_card or _is_kernel(r)]
    rows.sort(key=lambda r: -getattr(r, own))
    total_us = sum(getattr(r, own) for r in rows)
    n_started = sum(r.count for r in rows) / N_STEPS
    where = "on the device" if on_card else "of self time"
    lines = [
        f"## {what}, {kind}, {case.batch} x {case.tiles} tiles, {case.device}",
        "",
        f"{wall_ms:.2f} ms a step without the profiler; {total_us / N_STEPS / 1e3:.2f} ms {where} "
        f"in {n_started:.0f} {'kernels and copies' if on_card else 'operations'}.",
        "",
        "| what | calls a step | ms a step | share |",
        "|---|---|---|---|",
    ]
    for row in rows[:n_rows]:
        ms = getattr(row, own) / N_STEPS / 1e3
        share = getattr(row, own) / total_us
        name = row.key.replace("|", "/")[:70]
        lines.append(f"| `{name}` | {row.count / N_STEPS:.0f} | {ms:.3f} | {share:.1%} |")
    return "\n".join(lines) + "\n"


def _is_kernel(row: Any) -> bool:
    return row.device_type == torch.autograd.DeviceType.CUDA


def main() -> None:
    """Profile, and write or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=8_000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--genes", type=int, default=768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arm", nargs="+", default=["exact", "fast"])
    parser.add_argument("--what", nargs="+", default=["train", "infer"])
    parser.add_argument("--rows", type=int, default=14)
    parser.add_argument("--reference", help="folder of the published code")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    case = Case(
        tiles=given.tiles,
        dim=given.dim,
        genes=given.genes,
        threads=given.threads,
        reference=given.reference,
        device=given.device,
        batch=given.batch,
    )
    device = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    text = f"# Profile of a step\n\n{device}, torch {torch.__version__}.\n\n"
    text += "\n".join(measure(case, a, w, given.rows) for a in given.arm for w in given.what)
    print(text)
    if given.output is not None:
        storage.write_text(given.output, text)


if __name__ == "__main__":
    main()
