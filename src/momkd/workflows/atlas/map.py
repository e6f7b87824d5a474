"""The space of a memory as a plane: its slots, the slides and, where a run kept it, their RNA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from momkd.evaluation.slot_use import principal_plane
from momkd.reporting.memory_figures import MapPoints, draw_map
from momkd.workflows.atlas.genes import SlotGenes
from momkd.workflows.atlas.slot_reading import Atlas

_SIGNS = {"slide": "o", "RNA": "^", "slot": "s"}
_NAMES = {"slide": "slide", "RNA": "RNA of a training case", "slot": "slot"}
_BY_TILES = (
    "A slide stands where its tiles lie on average, weighted by attention: what the predictor "
    "itself knows."
)
_ALIGNED = (
    "Slides and RNA of the training cases stand where training put them to be aligned: a slide and "
    "the RNA of its case meet in the memory, never with each other directly."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPoint:
    """One point: ``kind`` slot, slide or RNA; its class, -1 if not known; its name and place."""

    kind: str
    label: int
    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryMap:
    """Points in the plane of the two principal components, the share each axis shows, and how."""

    points: Sequence[MapPoint]
    shares: np.ndarray
    about: str

    def figure(self, class_names: Sequence[str]) -> Figure:
        """Draw it; slots are numbered, cases are not."""
        kinds = []
        for kind in ("slide", "RNA", "slot"):
            own = [p for p in self.points if p.kind == kind]
            if own:
                words = tuple(p.name for p in own) if kind == "slot" else ()
                kinds.append(
                    MapPoints(
                        name=_NAMES[kind],
                        places=np.array([[p.x, p.y] for p in own], dtype=np.float64),
                        labels=np.array([p.label for p in own]),
                        mark=_SIGNS[kind],
                        words=words,
                    )
                )
        return draw_map(kinds, self.shares, class_names)

    def counts(self) -> dict[str, int]:
        """Count the points of each kind."""
        return {kind: sum(p.kind == kind for p in self.points) for kind in ("slot", "slide", "RNA")}


def make_map(atlas: Atlas, genes: SlotGenes | None, label_of: Mapping[str, int]) -> MemoryMap:
    """Lay slots, slides and RNA into one plane.

    Where a run kept what training used, its training cases are shown; elsewhere the given slides.

    Parameters
    ----------
    label_of
        Case -> class, of the cases for which it is known.
    """
    n_classes, n_slots, _ = atlas.slots.shape
    names = [("slot", label, str(k + 1)) for label in range(n_classes) for k in range(n_slots)]
    rows = [atlas.slots.reshape(n_classes * n_slots, -1)]
    about = _BY_TILES
    if genes is not None and genes.slide_points is not None and genes.rna_points is not None:
        labels = genes.labels.tolist()
        for kind, points in (("slide", genes.slide_points), ("RNA", genes.rna_points)):
            rows.append(points)
            names += [(kind, y, c) for y, c in zip(labels, genes.case_ids, strict=True)]
        about = _ALIGNED
    else:
        rows.append(np.stack([s.point for s in atlas.slides]))
        names += [("slide", label_of.get(s.case_id, -1), s.slide_id) for s in atlas.slides]
    places, shares = principal_plane(np.concatenate(rows))
    laid = [
        MapPoint(kind=kind, label=label, name=name, x=float(x), y=float(y))
        for (kind, label, name), (x, y) in zip(names, places, strict=True)
    ]
    return MemoryMap(points=laid, shares=shares, about=about)
