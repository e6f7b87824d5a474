"""Measure the memory that a slide of 60,000 x 60,000 px takes.

    python benchmarks/large_slide.py [--side 60000] [--pyramid] [-o FILE.json]

Writes a TIFF of that size into a temporary folder (tissue is one disc; tiles are encoded once and
repeated; the file is deleted afterwards), runs ``momkd extract`` on it, and samples the memory of
the whole process tree: RSS, which counts shared pages once a process, and PSS, which counts them
once. Without ``--pyramid`` there is only level 0: the thumbnail must be made from all of it.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

TILE_PX = 512
MPP = 0.25
DISC_UM = 1500.0


def paint_tile(tissue: bool, rng: np.random.Generator) -> np.ndarray:
    """Paint one tile of glass, or of pink tissue with purple nuclei."""
    picture = np.full((TILE_PX, TILE_PX, 3), 243.0)
    if tissue:
        picture[:] = (226, 160, 190)
        nuclei = rng.random((TILE_PX // 16, TILE_PX // 16)) < 0.15
        picture[np.kron(nuclei, np.ones((16, 16), bool))] = (96, 60, 140)
    picture += rng.normal(0, 1, (TILE_PX, TILE_PX, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def encode_tiles(folder: Path) -> tuple[bytes, list[bytes]]:
    """Give encoded glass, and some encoded tiles of tissue."""
    rng = np.random.default_rng(0)
    tiles = [paint_tile(False, rng), *(paint_tile(True, rng) for _ in range(8))]
    path = folder / "tiles.tif"
    with tifffile.TiffWriter(path) as writer:
        for tile in tiles:
            # RGB goes in; what is stored, and passed on as it is, is YCbCr
            writer.write(tile, metadata=None, **(_OPTIONS | {"photometric": "rgb"}))
    with tifffile.TiffFile(path) as file:
        segments = [_read_segment(file, page) for page in file.pages]
    return segments[0], segments[1:]


_OPTIONS: dict[str, Any] = {
    "tile": (TILE_PX, TILE_PX),
    "photometric": "ycbcr",
    "subsampling": (1, 1),
    "compression": "jpeg",
}


def _read_segment(file: tifffile.TiffFile, page: Any) -> bytes:
    file.filehandle.seek(page.dataoffsets[0])
    return file.filehandle.read(page.databytecounts[0])


def write_slide(
    path: Path, side_px: int, *, pyramid: bool = False, disc_um: float = DISC_UM
) -> Path:
    """Write the slide; its disc of tissue lies in the middle."""
    glass, tissue = encode_tiles(path.parent)

    def segments(side: int, downsample: int) -> Iterator[bytes]:
        n = -(-side // TILE_PX)
        radius = disc_um / MPP / downsample / TILE_PX
        for y in range(n):
            for x in range(n):
                on = np.hypot(x + 0.5 - n / 2, y + 0.5 - n / 2) < radius
                yield tissue[(x * 7 + y * 3) % len(tissue)] if on else glass

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for downsample in (1, 4, 16) if pyramid else (1,):
            side = side_px // downsample
            per_cm = 10_000 / (MPP * downsample)
            writer.write(
                segments(side, downsample),
                shape=(side, side, 3),
                dtype=np.uint8,
                subfiletype=int(downsample > 1),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                **_OPTIONS,
            )
    return path


class TreeMemory:
    """Samples the memory of a process and its children until it ends."""

    def __init__(self, pid: int) -> None:
        self.peak = {"rss": 0, "pss": 0, "largest_process_rss": 0}
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "TreeMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            found = [m for m in map(_memory_of, _tree(self._pid)) if m is not None]
            if found:
                rss = [m["Rss"] for m in found]
                self._raise_to("rss", sum(rss))
                self._raise_to("pss", sum(m["Pss"] for m in found))
                self._raise_to("largest_process_rss", max(rss))

    def _raise_to(self, key: str, n_bytes: int) -> None:
        self.peak[key] = max(self.peak[key], n_bytes)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(p) for p in task.read_text().split()]
            except OSError:
                continue  # it ended this moment
    return found


def _memory_of(pid: int) -> dict[str, int] | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    pairs = (line.split() for line in lines)
    return {p[0].rstrip(":"): int(p[1]) * 1024 for p in pairs if len(p) == 3}


def extract_and_measure(slide: Path, folder: Path) -> dict[str, Any]:
    """Run ``momkd extract`` and give its time, tiles and peaks of memory."""
    arguments = [sys.executable, "-m", "momkd.cli", "extract", str(slide), "-o", str(folder)]
    started = time.monotonic()
    running = subprocess.Popen(arguments)
    with TreeMemory(running.pid) as memory:
        code = running.wait()
    took_s = time.monotonic() - started
    if code:
        raise SystemExit(f"momkd extract ended with {code}")
    with h5py.File(folder / f"{slide.stem}.h5") as file:
        n_tiles = len(file["coords"])
    gib = {f"peak_{key}_gib": round(n / 2**30, 3) for key, n in memory.peak.items()}
    return {"tiles": n_tiles, "seconds": round(took_s, 1)} | gib


def main() -> None:
    """Write, extract, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=60_000)
    parser.add_argument("--pyramid", action="store_true")
    results = Path(__file__).parent / "results" / "large_slide.json"
    parser.add_argument("-o", "--output", type=Path, default=results)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = write_slide(folder / "large.tif", given.side, pyramid=given.pyramid)
        size_mib = slide.stat().st_size / 2**20
        found = extract_and_measure(slide, folder / "features")
    about = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "side_px": given.side,
        "levels": 3 if given.pyramid else 1,
        "file_mib": round(size_mib),
        "decoded_gib": round(given.side**2 * 3 / 2**30, 1),
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(about | found, indent=1) + "\n")
    print(given.output.read_text())


if __name__ == "__main__":
    main()
