"""MoMKD's memory before the first step: spherical k-means of training tiles, section 3.3.2."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from momkd.models.momkd_options import MemoryStart
from momkd.nn.memory import ClassMemory
from momkd.types import Bag, SampleSource

Project = Callable[[Bag], Float[Tensor, "n_tiles dim_shared"]]


@torch.no_grad()
def start_by_tiles(
    memory: ClassMemory, samples: SampleSource, options: MemoryStart, project: Project
) -> tuple[str, ...]:
    """Set each class's slots from its training tiles, projected by the untrained encoder.

    Slides are read in a random order until a class has tiles enough. Gives a sentence for each
    class with fewer distinct tiles than slots, or without a slide: its slots start at random.
    """
    notes = []
    n_classes, n_slots, _ = memory.slots.shape
    for label in range(n_classes):
        points = _training_points(samples, label, options, project)
        if points is None:
            notes.append(f"class {label}: no training slide, its slots start at random")
            continue
        n_distinct = memory.start(label, points, options.steps)
        if n_distinct < n_slots:
            notes.append(f"class {label}: {n_distinct} distinct tiles for {n_slots} slots")
    return tuple(notes)


def _training_points(
    samples: SampleSource, label: int, options: MemoryStart, project: Project
) -> Tensor | None:
    """Project random tiles of random training slides of one class; None if it has none."""
    keys = enumerate(samples.keys)
    own = [i for i, key in keys if key.label == label and key.slide_id is not None]
    wanted = options.tiles_per_class
    cap = math.ceil(wanted / max(1, min(options.slides_per_class, len(own))))
    found: list[Tensor] = []
    for place in torch.randperm(len(own)).tolist():
        bag = samples[own[place]].bag
        if bag is None:
            raise ValueError(f"sample {own[place]} has a slide in its key and no bag")
        points = project(bag)
        chosen = torch.randperm(len(bag))[: min(cap, wanted - sum(map(len, found)))]
        found.append(points[chosen.to(points.device)])
        if sum(map(len, found)) >= wanted:
            break
    return torch.cat(found) if found else None
