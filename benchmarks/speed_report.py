"""The table and the plot of ``speed.py``."""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from momkd import storage

MIB = 1 << 20
BASELINES = ("reference stock", "reference", "pyg stock", "pyg", "plain")


def write_table(result: dict[str, Any], path: Path) -> str:
    """Write the table; give its text."""
    lines = [
        "# Speed and memory of MoMKD",
        "",
        f"{result['date']}, {_words(result['machine'])}, {result['threads']} thread(s), "
        f"{result.get('batch', 1)} bag(s) of that size in a step, load "
        f"{result['load_before'][0]:.1f} before and {result['load_after'][0]:.1f} after.",
        "Products alone run at "
        + ", ".join(f"{v / 1e9:.0f} GFLOP/s ({k})" for k, v in result["ceiling"].items())
        + ". `stock` arms leave the allocator as it is, the others keep freed memory. Ratios are "
        "medians over interleaved rounds, least and greatest in brackets; CPU time beside wall.",
        "",
    ]
    if _was_busy(result):
        lines += ["**Measured on a busy machine: not to be quoted.**", ""]
    for what, title in (("train", "One training step"), ("infer", "One inference")):
        for clock in ("wall", "cpu"):
            lines += _time_table(result, what, title, clock)
        lines += _memory_table(result, what)
    lines += _growth(result) + _graph_table(result) + _gate_table(result)
    text = "\n".join(lines) + "\n"
    storage.write_text(path, text)
    return text


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw time and memory against size, with the line of the products alone."""
    sizes = [int(n) for n in result["sizes"]]
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), constrained_layout=True)
    for row, what in zip(axes, ("train", "infer"), strict=True):
        for name in _names(result):
            rows = [found[what]["arms"][name]["wall_s"] for found in result["sizes"].values()]
            row[0].loglog(sizes, rows, marker="o", label=name)
            peaks = [found[f"memory_{what}"][name][0] / MIB for found in result["sizes"].values()]
            row[1].loglog(sizes, peaks, marker="o", label=name)
        for kind, ceiling in result["ceiling"].items():
            floor = [f["operations"][what] / ceiling for f in result["sizes"].values()]
            row[0].loglog(sizes, floor, linestyle="--", color="grey", label=f"products, {kind}")
        row[0].set_ylabel("seconds")
        row[1].set_ylabel("MiB above the inputs")
        for axis in row:
            axis.set_title("training step" if what == "train" else "inference")
            axis.set_xlabel("tiles")
        row[0].legend(fontsize=8)
    figure.suptitle(f"{result['date']}, {_words(result['machine'])}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _names(result: dict[str, Any]) -> list[str]:
    return list(next(iter(result["sizes"].values()))["train"]["arms"])


def _words(machine: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in machine.items())


def _was_busy(result: dict[str, Any]) -> bool:
    n_cpus = result["machine"]["n_cpus"]
    busy = [f[w]["rounds"] for f in result["sizes"].values() for w in ("train", "infer")]
    loaded = max(result["load_before"][0], 0.0) > 0.5 * n_cpus
    return loaded or any(2 * rounds["busy"] > rounds["n"] for rounds in busy)


def _time_table(result: dict[str, Any], what: str, title: str, clock: str) -> list[str]:
    baselines = [b for b in BASELINES if b in _names(result)]
    lines = [f"## {title}, {clock} time", ""]
    lines += [
        "| tiles | arm | ms | share of the floor | " + " | ".join(f"x {b}" for b in baselines)
    ]
    lines[-1] += " |"
    lines += ["|" + "---|" * (4 + len(baselines))]
    for n_tiles, found in result["sizes"].items():
        for name, row in found[what]["arms"].items():
            seconds = row[f"{clock}_s"]
            kind = "fast" if name == "fast" else "exact"
            floor = found["operations"][what] / result["ceiling"][kind]
            cells = [n_tiles, name, f"{1e3 * seconds:.2f}", f"{floor / seconds:.0%}"]
            for baseline in baselines:
                ratio = row.get(f"x_{baseline}_{clock}")
                cells.append("" if ratio is None else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio))
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _memory_table(result: dict[str, Any], what: str) -> list[str]:
    names = _names(result)
    first = names[0]
    lines = [f"Peak memory above the inputs (of the whole process), MiB; x {first}:", ""]
    lines += ["| tiles | " + " | ".join(names) + " |", "|" + "---|" * (1 + len(names))]
    for n_tiles, found in result["sizes"].items():
        peaks = found[f"memory_{what}"]
        base = peaks[first][0]
        cells = [
            f"{peaks[n][0] / MIB:.0f} ({peaks[n][1] / MIB:.0f}); {base / peaks[n][0]:.1f}x"
            for n in names
        ]
        lines.append(f"| {n_tiles} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _growth(result: dict[str, Any]) -> list[str]:
    sizes = [int(n) for n in result["sizes"]]
    if len(sizes) < 2:
        return []
    clock = "cpu_s" if result["device"] == "cpu" else "wall_s"
    parts = []
    for name in _names(result):
        for what in ("train", "infer"):
            values = [found[what]["arms"][name][clock] for found in result["sizes"].values()]
            exponent = np.polyfit(np.log(sizes), np.log(values), 1)[0]
            parts.append(f"{name} {what} {exponent:.2f}")
    return ["Growth with the number of tiles (slope in logarithms): " + ", ".join(parts) + ".", ""]


def _graph_table(result: dict[str, Any]) -> list[str]:
    lines = ["## Eight nearest neighbours, CPU ms", ""]
    lines += ["| tiles | compiled | arrays | scikit-learn | x |", "|---|---|---|---|---|"]
    for n_tiles, found in result["sizes"].items():
        ms = found["graph_ms"]
        compiled = ms.get("compiled", math.nan)
        lines.append(
            f"| {n_tiles} | {compiled:.2f} | {ms['arrays']:.1f} | {ms['sklearn']:.1f} "
            f"| {ms['sklearn'] / compiled:.0f} |"
        )
    return [*lines, ""]


def _gate_table(result: dict[str, Any]) -> list[str]:
    lines = ["## Agreement with plain torch, dropout off, both labels", ""]
    lines += [
        "| tiles | arm | outputs, largest difference | gradients, relative |",
        "|---|---|---|---|",
    ]
    for n_tiles, found in result["sizes"].items():
        for name, errors in found["errors"].items():
            gradient = f"{errors['gradient']:.1e}" if "gradient" in errors else ""
            lines.append(f"| {n_tiles} | {name} | {errors['output']:.1e} | {gradient} |")
    return [*lines, ""]
