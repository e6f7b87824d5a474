"""The page of an atlas: the slots in words, numbers and pictures, fit for a clinician."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import momkd
from momkd.evaluation.slot_use import DEAD_SHARE, SAME_COSINE
from momkd.reporting.figures import png_of
from momkd.reporting.memory_figures import draw_sheets
from momkd.reporting.page import (
    Facts,
    Heading,
    Part,
    Picture,
    Report,
    Row,
    Section,
    Table,
    Words,
)
from momkd.serving.card import describe_tile
from momkd.workflows.atlas.gene_tables import genes_section, strongest_gene
from momkd.workflows.atlas.genes import SlotGenes
from momkd.workflows.atlas.inputs import MemoryInputs
from momkd.workflows.atlas.map import MemoryMap
from momkd.workflows.atlas.sheets import Slot, make_sheet, slot_name
from momkd.workflows.atlas.slide_pixels import SlidePixels
from momkd.workflows.atlas.slot_reading import Atlas
from momkd.workflows.atlas.trained_memory import TrainedMemory
from momkd.workflows.atlas.words import ABOUT, GLOSSARY, LIMITS
from momkd.workflows.report_training import memory_section, read_trainings

_SHEET_DPI = 110


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtlasPage:
    """What the page is made from; ``shown`` are the slots with a picture."""

    memory: TrainedMemory
    atlas: Atlas
    inputs: MemoryInputs
    pixels: SlidePixels
    plane: MemoryMap
    shown: Sequence[Slot]
    genes: SlotGenes | None
    no_genes: str
    n_top: int
    names: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """Words for the classes."""
        return self.memory.card.class_names

    def slide_names(self) -> dict[str, str]:
        """Give what slides are called: numbers, unless names were asked for."""
        ids = [s.slide_id for s in self.atlas.slides]
        return {s: s if self.names else f"slide {i}" for i, s in enumerate(ids, start=1)}


def make_page(page: AtlasPage) -> Report:
    """Put the page together."""
    card = page.memory.card
    return Report(
        title=f"The memory behind {card.task}",
        alarms=[f"No pixels: {p.code}, {p.what}" for p in page.pixels.problems],
        sections=[
            Section(title="What is shown", parts=[Words(lines=ABOUT), Facts(pairs=_facts(page))]),
            _slots_section(page),
            _tissue_section(page),
            _training_section(page),
            _map_section(page),
            genes_section(page.genes, page.no_genes, page.class_names),
            Section(title="Limits", parts=[Words(lines=LIMITS, is_list=True)]),
            Section(title="Glossary", parts=[_glossary()]),
        ],
        foot=f"Made by momkd {momkd.__version__}. One file: it loads nothing and sends nothing.",
    )


def _facts(page: AtlasPage) -> list[tuple[str, str]]:
    card, atlas = page.memory.card, page.atlas
    negative, positive = page.class_names
    n_tiles = sum(s.n_tiles for s in atlas.slides)
    flags = Counter(flag for s in atlas.slides for flag in s.flags)
    return [
        ("label", f"{card.task}: {positive} (positive) against {negative}"),
        ("training", f"{page.memory.name}: {page.memory.choice}"),
        ("slots", f"{atlas.slots.shape[1]} of each class, in {atlas.slots.shape[2]} dimensions"),
        ("slides", f"{page.inputs.which}"),
        ("how many", f"{len(atlas.slides)} slides of {atlas.n_cases} cases, {n_tiles:,} tiles"),
        ("tiles", describe_tile(card)),
        ("flags", ", ".join(f"{f} ({n} slides)" for f, n in flags.most_common()) or "none"),
        ("pixels", _pixels_said(page)),
        ("weights", str(card.weights_sha256)),
    ]


def _pixels_said(page: AtlasPage) -> str:
    n_crops, n_pictures = len(page.pixels.crops), len(page.pixels.thumbnails)
    if not n_pictures:
        return "none at hand: tiles are drawn where they lie, without the slide under them"
    return f"{n_pictures} slides as pictures, {n_crops} tiles seen closely"


def _slots_section(page: AtlasPage) -> Section:
    atlas, names = page.atlas, page.class_names
    rows = [_slot_row(page, slot) for slot in atlas.by_evidence]
    use = atlas.use
    lines = [
        f"{name}: {int(use.dead[c].sum())} of {use.use.shape[1]} slots are dead on these slides, "
        f"{int(atlas.likeness.duplicate[c].sum())} have a duplicate in their class, "
        f"{int(atlas.likeness.twin[c].sum())} a twin in the other class; the use equals that of "
        f"{use.perplexity[c]:.1f} slots used evenly."
        for c, name in enumerate(names)
    ]
    caption = (
        "Slots, those that carry most of the evidence first. Shares are from 0 to 1, means over "
        f"{atlas.n_cases} cases, each counted once. Dead: nearest of its class for less than "
        f"{DEAD_SHARE:g} of an even share ({DEAD_SHARE / use.use.shape[1]:.4f}) of the tiles. "
        f"Duplicate, twin: cosine of {SAME_COSINE:g} or more to another slot of its own class, of "
        "the other class."
    )
    return Section(
        title="Slots",
        parts=[Words(lines=lines, is_list=True), Table(caption=caption, rows=rows)],
    )


def _slot_row(page: AtlasPage, slot: Slot) -> Row:
    use, like, names = page.atlas.use, page.atlas.likeness, page.class_names
    own = (slot[0], int(like.own_slot[slot]))
    other = (1 - slot[0], int(like.other_slot[slot]))
    notes = ["dead"] if use.dead[slot] else []
    notes += [f"duplicate of {slot_name(own, names)}"] if like.duplicate[slot] else []
    notes += [f"twin of {slot_name(other, names)}"] if like.twin[slot] else []
    row = {
        "slot": slot_name(slot, names),
        "share of the evidence": float(use.evidence[slot]),
        "share of the attention": float(use.attention[slot]),
        "share of tiles (nearest of its class)": float(use.use[slot]),
        "share of votes (nearest of all)": float(use.votes[slot]),
        "cosine to the nearest slot of its class": float(like.own[slot]),
        "cosine to the nearest slot of the other class": float(like.other[slot]),
        "notes": "; ".join(notes),
    }
    if page.genes is not None:
        row["strongest gene"] = strongest_gene(page.genes, slot)
    return row


def _tissue_section(page: AtlasPage) -> Section:
    parts: list[Part] = [
        Words(
            lines=[
                "Each slot on the slide of its top tile: how like the slot every tile is, and "
                f"where its top tiles lie (frames). Beside it, up to {page.n_top} tiles most like "
                "it among those it is the nearest slot of its class for."
                + ("" if page.pixels.crops else " Pixels of tiles need --slides.")
            ]
        )
    ]
    names = page.slide_names()
    for slot in page.shown:
        sheet = make_sheet(
            page.atlas, slot, page.pixels, page.class_names, names, n_tiles=page.n_top
        )
        n_crops = page.n_top if any(c.pixels is not None for c in sheet.crops) else 0
        tiles = page.atlas.top[slot]
        where = names[tiles[0].slide_id]
        parts += [
            Heading(text=f"Slot {slot_name(slot, page.class_names)}"),
            Picture(
                figure=png_of(draw_sheets([sheet], n_crops=n_crops), dpi=_SHEET_DPI),
                caption=f"{_said(page, slot)} Top tile on {where}; cosine of the "
                f"{len(tiles)} top tiles {tiles[-1].cosine:.2f} to {tiles[0].cosine:.2f} (1: the "
                "same direction, 0: nothing in common).",
                alt=f"Map of {where}: cosine of its tiles to slot "
                f"{slot_name(slot, page.class_names)}, from {sheet.layer.values.min():.2f} to "
                f"{sheet.layer.values.max():.2f}; {len(sheet.marked)} top tiles are framed"
                + (f", {n_crops} tiles are shown beside it." if n_crops else "."),
            ),
        ]
    left = page.atlas.slots.shape[0] * page.atlas.slots.shape[1] - len(page.shown)
    if left:
        text = f"{left} slots are not pictured: they are nearest to no tile of these slides"
        text += " or carry less of the evidence than those above. All stand in slots.csv."
        parts.append(Words(lines=[text]))
    return Section(title="Slots on tissue", parts=parts)


def _said(page: AtlasPage, slot: Slot) -> str:
    use = page.atlas.use
    text = (
        f"Carries {use.evidence[slot]:.1%} of the evidence; nearest of its class for "
        f"{use.use[slot]:.1%} of the tiles."
    )
    return text + (" Dead by the threshold above." if use.dead[slot] else "")


def _training_section(page: AtlasPage) -> Section:
    title, folder = "Use over training", page.memory.training
    if folder is None or not (folder / "history.csv").is_file():
        text = "Not known: a predictor keeps no history; give the run that trained it."
        return Section(title=title, parts=[Words(lines=[text])])
    found = read_trainings(folder.parent, [folder.name])
    named = replace(found, fits=[replace(fit, model="this training") for fit in found.fits])
    section = memory_section(named, page.class_names)
    if section is None:
        text = "The history of this training says nothing of its memory."
        return Section(title=title, parts=[Words(lines=[text])])
    return Section(title=title, parts=section.parts)


def _map_section(page: AtlasPage) -> Section:
    plane, counts = page.plane, page.plane.counts()
    first, second = plane.shares
    told = f"{counts['slot']} slots, {counts['slide']} slides, {counts['RNA']} RNA profiles"
    return Section(
        title="Map",
        parts=[
            Words(
                lines=[
                    "The space in which tiles are compared with slots, along the two directions "
                    "in which slots, slides and RNA differ most (principal components). They show "
                    f"{first:.0%} and {second:.0%} of all differences: what lies together here may "
                    "lie apart in the other directions.",
                    plane.about,
                ]
            ),
            Picture(
                figure=plane.figure(page.class_names),
                caption=f"{told}. Colour: class (grey: not known); sign: what a point is. Slots "
                "are numbered; cases are named in map.csv only.",
                alt=f"Scatter of {told} in two principal components, which show {first:.0%} and "
                f"{second:.0%} of the variance.",
            ),
        ],
    )


def _glossary() -> Table:
    rows: list[Mapping[str, str]] = [
        {"word": word, "what it means": meaning} for word, meaning in GLOSSARY
    ]
    return Table(caption="What the words mean", rows=rows)
