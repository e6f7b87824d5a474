"""``momkd extract``: slides -> tissue -> tiles -> embeddings, one feature file a slide."""

import csv
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import momkd
from momkd.data.layouts.table import read_raw
from momkd.errors import DataError, MomkdError, Problem, TooManyDroppedError
from momkd.slides.encoders import DEFAULT_ENCODER, Encoder, load_encoder
from momkd.slides.formats import SLIDE_SUFFIXES
from momkd.slides.reader import SlideRules, slide_name
from momkd.slides.reading_process import ReadRequest, SlideFacts, ViewReader, Views
from momkd.slides.tiling import TilingOptions
from momkd.storage import digest_file, write_atomically, write_bytes, write_text
from momkd.workflows.console import say

_POWER_UM = 10.0  # magnification is told as 10 um / mpp


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What became of every slide.

    Attributes
    ----------
    files
        Feature files by slide, made now or found done.
    n_made
        How many were made now.
    problems
        Slides left out, with the reason.
    """

    files: dict[str, Path]
    n_made: int
    problems: tuple[Problem, ...]


def extract(
    slides: Sequence[Path | str],
    output: Path | str,
    *,
    encoder: str | Encoder = DEFAULT_ENCODER,
    weights: Path | str | None = None,
    tiling: TilingOptions | None = None,
    rules: SlideRules | None = None,
    tissue: Path | str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    batch_size: int = 32,
    max_skip: float = 0.0,
) -> Extraction:
    """Make a feature file of every slide; a second call goes on where the first one stopped.

    Parameters
    ----------
    slides
        Slides, or folders searched for them.
    output
        Folder: ``<slide>.h5`` (TRIDENT layout, with mpp), ``thumbnails/<slide>.jpg``,
        ``tiles/<slide>.jpg`` (the same with tissue and kept tiles drawn), and ``dropped.csv``
        with a reason for each slide left out.
    encoder
        Name, or an encoder already loaded.
    weights
        File of its weights; else the installed package or the Hub.
    tiling, rules
        How slides are cut and opened.
    tissue
        A mask (GeoJSON or picture) for the only slide, or a folder of ``<slide>.<ext>``.
    device, precision
        Where and how the encoder runs.
    batch_size
        Tiles a step.
    max_skip
        Share of slides that may be left out.

    Raises
    ------
    DataError
        P09 no slide; S19 two slides of one name; any S code if no slide could be read.
    TooManyDroppedError
        S20 more left out than allowed; the other files are written.
    """
    folder = Path(output)
    tiling, rules = tiling or TilingOptions(), rules or SlideRules()
    paths = find_slides([Path(s) for s in slides])
    if isinstance(encoder, str):
        given = None if weights is None else Path(weights)
        encoder = load_encoder(encoder, weights=given, device=device, precision=precision)  # type: ignore[arg-type]
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    n_made = 0
    with ViewReader() as reader:
        for number, path in enumerate(paths, start=1):
            target = folder / f"{slide_name(path)}.h5"
            started_s = time.monotonic()
            try:
                mask = _tissue_of(path, tissue)
                request = ReadRequest(
                    path=path, rules=rules, tiling=tiling, tissue=mask, batch_size=batch_size
                )
                wanted = _digest(request, encoder)
                if _is_done(target, wanted):
                    say(f"{path.name}: done before ({number} of {len(paths)})")
                else:
                    facts, n_tiles = _extract_one(reader, request, encoder, target, wanted)
                    n_made += 1
                    took_s = time.monotonic() - started_s
                    say(
                        f"{path.name}: {n_tiles} tiles of {tiling.tile_um:g} um, {took_s:.0f} s "
                        f"({number} of {len(paths)})"
                    )
                    for note in facts.notes:
                        say(f"{path.name}: {note}")
                files[slide_name(path)] = target
            except MomkdError as error:
                if error.exit_code not in (3, 5):
                    raise
                problems += error.problems
                if len(paths) > 1:
                    say(f"left out: {error.problems[0].line()}")
    _write_dropped(folder, problems)
    if not files:
        raise DataError(*problems)
    if len(problems) > max_skip * len(paths):
        what = f"{len(problems)} of {len(paths)} were left out, allowed {max_skip:.0%}"
        what += f"; first: {problems[0].line()}"
        raise TooManyDroppedError.of("S20", "slides", what, "see dropped.csv")
    return Extraction(files=files, n_made=n_made, problems=tuple(problems))


def find_slides(roots: Sequence[Path]) -> list[Path]:
    """Find slides among files and folders (searched through).

    Raises
    ------
    DataError
        P09 none; S19 two of one name, whose feature files would overwrite each other.
    """
    found: list[Path] = []
    for root in dict.fromkeys(roots):
        if root.is_dir():
            found += sorted(p for p in root.rglob("*") if p.suffix.lower() in SLIDE_SUFFIXES)
        else:
            found.append(root)
    if not found:
        raise DataError.of("P09", "inputs", "no slide among the inputs", "name slides or a folder")
    twice = [name for name, n in Counter(map(slide_name, found)).items() if n > 1]
    if twice:
        what = f"{len(twice)} names stand for several slides (first: {twice[0]})"
        raise DataError.of("S19", "inputs", what, "rename them, or extract into two folders")
    return found


def thumbnail_of(features: Path) -> Path:
    """Give the place of a slide's thumbnail beside its feature file."""
    return features.parent / "thumbnails" / f"{features.stem}.jpg"


def _extract_one(
    reader: ViewReader, request: ReadRequest, encoder: Encoder, target: Path, wanted: str
) -> tuple[SlideFacts, int]:
    stream = reader.read(request)
    facts = next(stream)
    assert isinstance(facts, SlideFacts)
    rows: list[int] = []
    bad: list[int] = []
    parts = []
    for views in stream:
        assert isinstance(views, Views)
        rows += views.rows
        bad += views.bad
        if len(views.rows):
            parts.append(encoder.embed(views.pixels))
    write_bytes(thumbnail_of(target), facts.thumbnail)
    write_bytes(target.parent / "tiles" / f"{facts.slide_id}.jpg", facts.picture)
    embeddings = np.concatenate(parts)
    _write_features(target, facts, embeddings, rows, bad, encoder, wanted)
    return facts, len(rows)


def _write_features(
    target: Path,
    facts: SlideFacts,
    embeddings: np.ndarray,
    rows: Sequence[int],
    bad: Sequence[int],
    encoder: Encoder,
    wanted: str,
) -> None:
    grid = facts.grid
    assert grid.tile_px is not None
    assert grid.mpp is not None
    corner: dict[str, Any] = {
        "patch_size": grid.tile_px,
        "patch_size_level0": grid.tile_px0,
        "level0_magnification": _POWER_UM / facts.mpp,
        "target_magnification": _POWER_UM / grid.mpp,
        "overlap": 0,
        "name": facts.slide_id,
        "level0_width": facts.width_px0,
        "level0_height": facts.height_px0,
        "mpp": grid.mpp,
        "mpp_level0": facts.mpp,
        "mpp_source": facts.mpp_source,
    }
    about = {
        "momkd_version": momkd.__version__,
        "request_sha256": wanted,
        "slide_format": facts.format,
        "tissue_mm2": facts.tissue_mm2,
        "tissue_source": facts.tissue_source,
    }

    def fill(stream: Any) -> None:
        with h5py.File(stream, "w") as file:
            data = file.create_dataset("features", data=embeddings.astype(np.float32))
            data.attrs["encoder"] = encoder.recipe.name
            data.attrs["encoder_sha256"] = encoder.identity
            data.attrs["name"] = facts.slide_id
            coords = file.create_dataset("coords", data=grid.coords_px0[list(rows)])
            for key, value in corner.items():
                coords.attrs[key] = value
            if bad:
                file.create_dataset("unreadable_coords", data=grid.coords_px0[list(bad)])
            for key, value in about.items():
                file.attrs[key] = value

    write_atomically(target, fill)


def _digest(request: ReadRequest, encoder: Encoder) -> str:
    """Give what a feature file is made from: the slide's bytes, how it is cut, the encoder."""
    facts = {
        "slide": digest_file(request.path) if request.path.is_file() else None,
        "tissue": None if request.tissue is None else digest_file(request.tissue),
        "tiling": request.tiling.model_dump(),
        "rules": asdict(request.rules),
        "encoder": encoder.identity,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_done(target: Path, wanted: str) -> bool:
    """Whether the file is whole and made from just this."""
    if not target.exists():
        return False
    try:
        with h5py.File(target, "r") as file:
            same = file.attrs.get("request_sha256") == wanted
        return bool(same) and len(read_raw(target).embeddings) > 0
    except (OSError, MomkdError):
        return False


def _tissue_of(path: Path, tissue: Path | str | None) -> Path | None:
    if tissue is None:
        return None
    place = Path(tissue)
    if not place.is_dir():
        return place
    found = sorted(p for p in place.iterdir() if p.stem == slide_name(path))
    if not found:
        what = f"no mask for slide {slide_name(path)}"
        raise DataError.of("S17", str(place), what, "add it, or leave --tissue out")
    return found[0]


def _write_dropped(folder: Path, problems: Sequence[Problem]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "code", "reason", "remedy"])
    writer.writerows([[p.where, p.code, p.what, p.remedy] for p in problems])
    write_text(folder / "dropped.csv", text.getvalue())
