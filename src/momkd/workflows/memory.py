"""``momkd memory``: what the slots of a class memory see, as a page, tables and stored scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from momkd.errors import ConfigError
from momkd.reporting.report import write_report
from momkd.storage import write_text
from momkd.workflows.atlas.genes import SlotGenes, read_genes
from momkd.workflows.atlas.inputs import MemoryInputs, find_inputs
from momkd.workflows.atlas.map import make_map
from momkd.workflows.atlas.page import AtlasPage, make_page
from momkd.workflows.atlas.sheets import (
    Slot,
    places_shown,
    read_grids,
    shown_slots,
    slides_shown,
)
from momkd.workflows.atlas.slide_pixels import SlidePixels, find_thumbnails, read_pixels
from momkd.workflows.atlas.slot_reading import N_TOP, Atlas, read_slides
from momkd.workflows.atlas.tables import map_csv, slot_genes_csv, slots_csv, top_tiles_csv
from momkd.workflows.atlas.trained_memory import TrainedMemory, find_memory
from momkd.workflows.console import count_files, say

if TYPE_CHECKING:
    from momkd.slides.reader import SlideRules

MOST_SLOTS = 48
_MOST_TOP = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WrittenAtlas:
    """Where the page is, and what was found."""

    path: Path
    memory: TrainedMemory
    atlas: Atlas
    genes: SlotGenes | None
    no_genes: str

    def lines(self) -> list[str]:
        """Give the lines that a user reads."""
        use, like = self.atlas.use, self.atlas.likeness
        names = self.memory.card.class_names
        told = [f"{self.memory.name}: {self.memory.choice}"]
        for label, name in enumerate(names):
            told.append(
                f"{name}: {use.use.shape[1]} slots, {int(use.dead[label].sum())} dead, "
                f"{int(like.duplicate[label].sum())} duplicates, {int(like.twin[label].sum())} "
                f"twins in the other class, perplexity {use.perplexity[label]:.1f}"
            )
        told.append(f"genes: {self.no_genes or 'see slot_genes.csv'}")
        return [*told, f"atlas: {self.path}"]


def memory(
    source: Path | str,
    output: Path | str,
    *,
    features: Sequence[Path | str] = (),
    slides: Sequence[Path | str] = (),
    training: str | None = None,
    n_top: int = N_TOP,
    genes: bool = True,
    names: bool = False,
    rules: "SlideRules | None" = None,
    weights: Path | str | None = None,
    device: str = "cpu",
    workers: int = 1,
) -> WrittenAtlas:
    """Show what the slots of one trained memory see on slides.

    Parameters
    ----------
    source
        A run of ``momkd crossval`` or ``train``, one training in it, or a predictor.
    output
        Folder: ``memory.html``, ``slots.csv``, ``top_tiles.csv``, ``map.csv``, ``slot_genes.csv``
        where genes can be read, and ``scores/<slide>.h5``, which ``momkd heatmap --slots`` draws.
    features, slides
        Feature files, and slides whose pixels are shown (files or folders); see
        :func:`momkd.workflows.atlas.inputs.find_inputs`.
    training
        One training of the run; by default the first.
    n_top
        Top tiles of each slot, 1 to 24.
    genes
        Correlate slots with the RNA of the training cases, where the run can be read.
    names
        Call slides by their names on the page, instead of numbering them.
    rules, weights, device
        How slides are opened; how they are embedded, if they must be.
    workers
        Processes that examine feature files.

    Raises
    ------
    DataError, ModelError, ConfigError
        As :func:`momkd.workflows.atlas.trained_memory.find_memory` and ``find_inputs``.
    IntegrityError
        P19 the run's data are no longer those it was trained on; F26 a file changed.
    """
    if not 1 <= n_top <= _MOST_TOP:
        raise ConfigError.of("G07", "--top", f"got {n_top}, wanted 1 to {_MOST_TOP}")
    folder = Path(output)
    found, inputs, atlas = read_atlas(
        source,
        folder,
        features=features,
        slides=slides,
        training=training,
        n_top=n_top,
        rules=rules,
        weights=weights,
        device=device,
        workers=workers,
    )
    of_genes, no_genes = None, "not asked for"
    if genes:
        with count_files("training cases with slide and RNA") as counter:
            of_genes, no_genes = read_genes(found, on_case=counter.advance)
    shown = shown_slots(atlas, MOST_SLOTS)
    pixels = see_slots(atlas, inputs, shown, n_top, rules)
    plane = make_map(atlas, of_genes, inputs.labels)
    page = AtlasPage(
        memory=found,
        atlas=atlas,
        inputs=inputs,
        pixels=pixels,
        plane=plane,
        shown=shown,
        genes=of_genes,
        no_genes=no_genes,
        n_top=n_top,
        names=names,
    )
    class_names = found.card.class_names
    write_text(folder / "slots.csv", slots_csv(atlas, class_names))
    write_text(folder / "top_tiles.csv", top_tiles_csv(atlas, class_names))
    write_text(folder / "map.csv", map_csv(plane, class_names))
    table = folder / "slot_genes.csv"
    if of_genes is None:
        table.unlink(missing_ok=True)  # of an earlier call: it would pass for one of this
    else:
        write_text(table, slot_genes_csv(of_genes, class_names))
    write_report(folder / "memory.html", make_page(page))
    return WrittenAtlas(
        path=folder / "memory.html", memory=found, atlas=atlas, genes=of_genes, no_genes=no_genes
    )


def read_atlas(
    source: Path | str,
    folder: Path,
    *,
    features: Sequence[Path | str] = (),
    slides: Sequence[Path | str] = (),
    training: str | None = None,
    n_top: int = N_TOP,
    rules: "SlideRules | None" = None,
    weights: Path | str | None = None,
    device: str = "cpu",
    workers: int = 1,
    only_seen: bool = False,
) -> tuple[TrainedMemory, MemoryInputs, Atlas]:
    """Find a memory and its slides, and read them against it; no RNA is touched.

    Scores go to ``scores`` in the folder; arguments are those of :func:`memory`,
    and ``only_seen`` leaves slides out whose pixels are not at hand.
    """
    found = find_memory(Path(source), training)
    say(f"memory of {found.name}: {found.choice}")
    inputs = find_inputs(
        found,
        [Path(f) for f in features],
        [Path(s) for s in slides],
        extracted=folder / "features",
        rules=rules,
        weights=weights,
        device=device,
        workers=workers,
        only_seen=only_seen,
    )
    with count_files("reading slides against the memory") as counter:
        counter.start(len(inputs.files))
        atlas = read_slides(
            found,
            inputs.files,
            inputs.case_of,
            folder / "scores",
            n_top=n_top,
            on_slide=counter.advance,
        )
    return found, inputs, atlas


def see_slots(
    atlas: Atlas,
    inputs: MemoryInputs,
    shown: Sequence[Slot],
    n_tiles: int,
    rules: "SlideRules | None",
) -> SlidePixels:
    """Read the pixels that pictures of these slots need, from slides or what extraction left."""
    scores = slides_shown(atlas, shown)
    grids = read_grids(scores)
    files = {file.slide_id: file.path for file in inputs.files}
    found = find_thumbnails(files, grids, scores)
    if not inputs.pixels:
        return SlidePixels(thumbnails=found)
    tiles = places_shown(atlas, shown, n_tiles)
    pixels = read_pixels(inputs.pixels, grids, tiles, rules)
    return SlidePixels(
        thumbnails={**found, **pixels.thumbnails}, crops=pixels.crops, problems=pixels.problems
    )
