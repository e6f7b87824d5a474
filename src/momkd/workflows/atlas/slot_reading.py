"""What the slots of one memory see on slides; from the slides alone, no RNA and no label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import normalize

from momkd.data.features import read_bag
from momkd.evaluation.slot_use import Likeness, SlotUse, compare_slots, mean_use, slide_use
from momkd.file_names import file_names
from momkd.storage import require_inside
from momkd.types import Bag, Output, Prediction, SlideFile
from momkd.workflows.stored_scores import StoredScores, write_scores

if TYPE_CHECKING:
    from momkd.workflows.atlas.trained_memory import TrainedMemory

N_TOP = 6
_LEAST_A_SLIDE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TopTile:
    """One of the tiles most like a slot: where it lies, and its cosine to the slot."""

    slide_id: str
    case_id: str
    x_px0: int
    y_px0: int
    side_px0: float | None
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideReading:
    """One slide in the eyes of the memory.

    Parameters
    ----------
    use
        What each slot does on it.
    point
        Where the slide lies in the space of the memory: the mean of its tiles there, weighted by
        attention, as a unit vector.
    embedding
        As the model classifies it.
    scores
        File of its tiles' scores.
    """

    slide_id: str
    case_id: str
    n_tiles: int
    probability: float
    flags: tuple[str, ...]
    use: SlotUse
    point: Float32[np.ndarray, " dim_shared"]
    embedding: Float32[np.ndarray, " dim"]
    scores: Path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atlas:
    """A memory and what its slots see.

    Parameters
    ----------
    slots
        Unit vectors.
    use
        Mean over cases, of each the mean over its slides: each case counts once.
    top
        (class, slot) -> tiles most like it among those it is the nearest slot of its class for,
        best first; absent where it is nearest to no tile.
    """

    slots: Float32[np.ndarray, "2 n_slots dim_shared"]
    likeness: Likeness
    slides: Sequence[SlideReading]
    use: SlotUse
    top: Mapping[tuple[int, int], Sequence[TopTile]]

    @property
    def n_cases(self) -> int:
        """How many cases the slides are of."""
        return len({s.case_id for s in self.slides})

    @property
    def by_evidence(self) -> list[tuple[int, int]]:
        """Give the slots, those that carry most of the evidence first."""
        order = np.argsort(-self.use.evidence, axis=None, kind="stable")
        n_slots = self.slots.shape[1]
        return [(int(i) // n_slots, int(i) % n_slots) for i in order]


def read_slides(
    memory: "TrainedMemory",
    files: Sequence[SlideFile],
    case_of: Callable[[str], str],
    scores: Path,
    *,
    n_top: int = N_TOP,
    on_slide: Callable[[], None] | None = None,
) -> Atlas:
    """Read slides against a memory, and store the scores of their tiles.

    At most ``max(2, n_top / number of slides)`` top tiles of a slot are of one slide, so that one
    slide does not fill the row.

    Parameters
    ----------
    files
        Examined feature files, one at least.
    case_of
        Slide -> case.
    scores
        Folder of one h5 a slide: attention, evidence, and the cosine of each tile to each slot.

    Raises
    ------
    ModelError
        P codes: a slide that the predictor was not made for.
    """
    slots = memory.model.memory.unit().detach().float().cpu().numpy()
    slides: list[SlideReading] = []
    found: dict[tuple[int, int], list[TopTile]] = {}
    names = file_names((file.slide_id for file in files), ".h5")
    for file in files:
        bag = read_bag(file, k=memory.card.neighbours)
        case_id = case_of(file.slide_id)
        path = scores / names[file.slide_id]
        require_inside(scores.parent, path)
        stored, reading = _read(memory, bag, case_id, path)
        write_scores(path, stored)
        slides.append(reading)
        for key, tiles in _best_tiles(stored, case_id, n_top).items():
            found.setdefault(key, []).extend(tiles)
        if on_slide is not None:
            on_slide()
    cap = max(_LEAST_A_SLIDE, ceil(n_top / len(files)))
    cases = dict.fromkeys(s.case_id for s in slides)
    by_case = [mean_use([s.use for s in slides if s.case_id == c]) for c in cases]
    return Atlas(
        slots=slots,
        likeness=compare_slots(slots),
        slides=slides,
        use=mean_use(by_case),
        top={key: _spread(tiles, n_top, cap) for key, tiles in found.items()},
    )


def look_at(
    memory: "TrainedMemory", bag: Bag
) -> tuple[Prediction, Output, Tensor, Float64[np.ndarray, "n_tiles 2 n_slots"]]:
    """Score one slide once: the prediction, what the model said, its tiles, and their cosines.

    Raises
    ------
    ModelError
        P codes: a slide that the predictor was not made for.
    """
    flags = memory.predictor.require_fit(bag)
    with torch.inference_mode():
        output, points = memory.model.read_slots(bag)
        cosines = torch.einsum("nd,ckd->nck", points.float(), memory.model.memory.unit().float())
    said = memory.predictor.describe(bag, output, flags)
    return said, output, points, cosines.double().cpu().numpy()


def _read(
    memory: "TrainedMemory", bag: Bag, case_id: str, path: Path
) -> tuple[StoredScores, SlideReading]:
    said, output, points, cosines = look_at(memory, bag)
    probability = float(said.probabilities[1])
    stored = StoredScores(
        slide_id=bag.slide_id,
        model=memory.name,
        grid=said.grid,
        attention=said.attention,
        evidence=said.evidence,
        cosines=cosines,
        class_names=said.class_names,
        probability=probability,
        low=probability,
        high=probability,
    )
    centre = normalize((output.attention[:, None] * points).sum(dim=0), dim=0)
    reading = SlideReading(
        slide_id=bag.slide_id,
        case_id=case_id,
        n_tiles=len(bag),
        probability=probability,
        flags=said.flags,
        use=slide_use(cosines, said.attention),
        point=centre.float().cpu().numpy(),
        embedding=output.embedding.float().cpu().numpy(),
        scores=path,
    )
    return stored, reading


def _best_tiles(
    stored: StoredScores, case_id: str, n_top: int
) -> dict[tuple[int, int], list[TopTile]]:
    assert stored.cosines is not None
    assert stored.grid is not None
    grid, nearest = stored.grid, stored.cosines.argmax(axis=2)
    found = {}
    for label, slot in np.ndindex(*stored.cosines.shape[1:]):
        rows = np.flatnonzero(nearest[:, label] == slot)
        if not len(rows):
            continue
        values = stored.cosines[rows, label, slot]
        best = rows[np.argsort(-values, kind="stable")[:n_top]]
        found[label, slot] = [
            TopTile(
                slide_id=stored.slide_id,
                case_id=case_id,
                x_px0=int(grid.coords_px0[row, 0]),
                y_px0=int(grid.coords_px0[row, 1]),
                side_px0=grid.tile_px0 if grid.is_level0 else None,
                cosine=float(stored.cosines[row, label, slot]),
            )
            for row in best
        ]
    return found


def _spread(tiles: Sequence[TopTile], n_top: int, most_a_slide: int) -> list[TopTile]:
    """Give the best tiles, so many of one slide at most."""
    chosen: list[TopTile] = []
    taken: dict[str, int] = {}
    for tile in sorted(tiles, key=lambda t: (-t.cosine, t.slide_id, t.y_px0, t.x_px0)):
        if taken.get(tile.slide_id, 0) < most_a_slide and len(chosen) < n_top:
            chosen.append(tile)
            taken[tile.slide_id] = taken.get(tile.slide_id, 0) + 1
    return chosen
