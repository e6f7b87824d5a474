"""A feature file as ``momkd extract`` writes it, and whether one that exists is the one wanted."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import momkd
from momkd.data.layouts.table import read_raw
from momkd.errors import MomkdError
from momkd.slides.encoders.embed import Encoder
from momkd.slides.fingerprint import SlideStamp, digest_slide, stamp_of
from momkd.slides.reading_process import Views
from momkd.slides.survey import ReadRequest, SlideFacts
from momkd.storage import digest_file, write_atomically

_POWER_UM = 10.0  # magnification is told as 10 um / mpp


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What has been embedded of a slide so far."""

    facts: SlideFacts
    encoder: Encoder
    rows: list[int] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)
    n_holes: int = 0
    n_blurred: int = 0

    def add(self, views: Views) -> None:
        """Embed some more tiles."""
        self.rows += views.rows
        self.bad += views.bad
        self.n_holes += views.n_holes
        self.n_blurred += views.n_blurred
        if len(views.rows):
            self.parts.append(self.encoder.embed_prepared(views.pixels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a feature file is made from.

    Parameters
    ----------
    stamp
        Size and time of change of the slide.
    slide_sha256
        Digest of its content.
    request_sha256
        Digest of that, how the slide is opened and cut, and the encoder's identity.
    """

    stamp: SlideStamp
    slide_sha256: str
    request_sha256: str


def origin_of(
    request: ReadRequest, encoder: Encoder, done: Path, *, verify: bool = False
) -> Origin:
    """Say what a slide's feature file would be made from.

    A slide of gigabytes is read through only once: where the file of features that exists was made
    from a slide of this size and time of change, the digest it records is taken.

    Parameters
    ----------
    request, encoder
        What is wanted.
    done
        The feature file that may exist.
    verify
        Read every slide through, whatever its stamp.

    Raises
    ------
    OSError
        The slide cannot be read.
    """
    stamp = stamp_of(request.path)
    recorded = None if verify else _recorded(done, stamp)
    sha256 = recorded or digest_slide(request.path)
    facts = {
        "slide": sha256,
        "tissue": None if request.tissue is None else digest_file(request.tissue),
        "tiling": request.tiling.model_dump(),
        "rules": asdict(request.rules),
        "encoder": encoder.identity,
    }
    wanted = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Origin(stamp=stamp, slide_sha256=sha256, request_sha256=wanted)


def _recorded(done: Path, stamp: SlideStamp) -> str | None:
    facts = _attributes(done)
    same = (facts.get("slide_bytes"), facts.get("slide_mtime_ns")) == (
        stamp.n_bytes,
        stamp.mtime_ns,
    )
    found = facts.get("slide_sha256")
    return str(found) if same and found is not None else None


def is_done(target: Path, wanted: Origin) -> bool:
    """Whether the file is whole and made from just this."""
    if _attributes(target).get("request_sha256") != wanted.request_sha256:
        return False
    try:
        return len(read_raw(target).embeddings) > 0
    except MomkdError:
        return False


def _attributes(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs)
    except (OSError, RuntimeError):
        return {}


def write_features(target: Path, gathered: Gathered, origin: Origin) -> None:
    """Write a feature file in TRIDENT's layout, with mpp and its origin added.

    Raises
    ------
    MachineError
        X10 it cannot be written.
    """
    facts, encoder = gathered.facts, gathered.encoder
    grid = facts.grid
    embeddings = np.concatenate(gathered.parts).astype(np.float32)

    def fill(stream: Any) -> None:
        with h5py.File(stream, "w") as file:
            data = file.create_dataset("features", data=embeddings)
            data.attrs["encoder"] = encoder.recipe.name
            data.attrs["encoder_sha256"] = encoder.identity
            data.attrs["name"] = facts.slide_id
            coords = file.create_dataset("coords", data=grid.coords_px0[gathered.rows])
            coords.attrs.update(_about_coords(facts))
            if gathered.bad:
                bad = file.create_dataset("unreadable_coords", data=grid.coords_px0[gathered.bad])
                bad.attrs["level"] = facts.view_level
            file.attrs.update(_about_file(gathered, origin))

    write_atomically(target, fill)


def _about_coords(facts: SlideFacts) -> dict[str, Any]:
    grid = facts.grid
    assert grid.tile_px is not None
    assert grid.mpp is not None
    return {
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


def _about_file(gathered: Gathered, origin: Origin) -> dict[str, Any]:
    facts, n_read = gathered.facts, max(1, len(gathered.rows))
    return {
        "momkd_version": momkd.__version__,
        "request_sha256": origin.request_sha256,
        "slide_sha256": origin.slide_sha256,
        "slide_bytes": origin.stamp.n_bytes,
        "slide_mtime_ns": origin.stamp.mtime_ns,
        "slide_format": facts.format,
        "tissue_mm2": facts.tissue.area_mm2,
        "tissue_source": facts.tissue.source,
        "qc_pen_share": facts.pen_share,
        "qc_fold_share": facts.fold_share,
        "qc_blurred_share": gathered.n_blurred / n_read,
        "qc_hole_share": gathered.n_holes / n_read,
    }


def notes_of(gathered: Gathered) -> Sequence[str]:
    """Say what a user should know of a slide that has been read."""
    facts, n = gathered.facts, len(gathered.rows)
    notes = list(facts.notes)
    if gathered.bad:
        x, y = facts.grid.coords_px0[gathered.bad[0]].tolist()
        notes.append(
            f"{len(gathered.bad)} of {len(facts.grid)} tiles cannot be decoded and are left out "
            f"(first at {x}, {y} on level {facts.view_level})"
        )
    if gathered.n_holes > 0.05 * n:
        notes.append(f"the file lacks pixels under {gathered.n_holes} of {n} tiles: white there")
    for share, what in (
        (facts.pen_share, "of what is not glass has a marker's colour"),
        (facts.fold_share, "of the tissue looks folded"),
        (gathered.n_blurred / max(1, n), "of the tiles look blurred"),
    ):
        if share > 0.1:
            notes.append(f"{share:.0%} {what}; nothing was left out for it")
    return notes
