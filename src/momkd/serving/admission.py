"""The door of prediction: a bag must look like the slides the predictor was taught on."""

from momkd.errors import Problem
from momkd.serving.card import Card
from momkd.types import Bag

# two resolutions further apart than the first are refused, than the second are told
_SCALE_TOLERANCE = 0.05
_SCALE_NOTED = 0.005
_SAME_TILES = "tile the slide as the training slides were"


def examine_bag(bag: Bag, card: Card, *, graph: bool) -> tuple[list[Problem], tuple[str, ...]]:
    """Compare a bag with a card.

    Parameters
    ----------
    bag, card
        What is given, and what is wanted.
    graph
        The model needs the tile graph.

    Returns
    -------
    list of Problem
        Why it must be refused: C09, P01, P02, P03, F16; empty if it may pass.
    tuple of str
        Flags: what could not be verified, or lies near a limit.
    """
    found = [_examine_embeddings(bag, card), _examine_view(bag, card)]
    problems = [problem for part, _ in found for problem in part]
    if graph:
        problems += _examine_graph(bag, card)
    return problems, tuple(flag for _, part in found for flag in part)


def _examine_embeddings(bag: Bag, card: Card) -> tuple[list[Problem], list[str]]:
    where, problems = f"slide {bag.slide_id}", []
    if bag.dim != card.dims.dim_in:
        name = card.encoder or "embeddings"
        what = f"features have width {bag.dim}, the predictor expects {name} {card.dims.dim_in}"
        remedy = "extract features with the encoder it was trained on"
        problems.append(Problem(code="C09", where=where, what=what, remedy=remedy))
    if card.encoder is None or bag.encoder is None:
        return problems, ["encoder unverified"]
    if card.encoder.casefold() != bag.encoder.casefold():
        what = f"features are of encoder {bag.encoder}, the predictor expects {card.encoder}"
        remedy = f"extract features with {card.encoder}"
        problems.append(Problem(code="P01", where=where, what=what, remedy=remedy))
        return problems, []
    ours, theirs = bag.encoder_sha256, card.encoder_sha256
    if ours is None or theirs is None:
        return problems, ["encoder weights unverified"]
    if ours != theirs:
        what = f"features are of {bag.encoder} with other weights or preprocessing"
        what += f" ({ours[:12]}, the predictor expects {theirs[:12]})"
        remedy = "extract features with the weights it was trained on"
        problems.append(Problem(code="P02", where=where, what=what, remedy=remedy))
    return problems, []


def _examine_view(bag: Bag, card: Card) -> tuple[list[Problem], list[str]]:
    where, grid = f"slide {bag.slide_id}", bag.grid
    if grid is None:
        return [], ["tile size and resolution unverified"]
    problems, flags = [], []
    if card.tile_px is None or grid.tile_px is None:
        flags.append("tile size unverified")
    elif card.tile_px != grid.tile_px:
        what = f"tiles are {grid.tile_px} px wide, the predictor expects {card.tile_px}"
        problems.append(Problem(code="P03", where=where, what=what, remedy=_SAME_TILES))
    if card.tile_px and card.overlap_px is not None and grid.overlap_px is not None:
        apart = abs(grid.overlap_px - card.overlap_px)
        if apart > _SCALE_TOLERANCE * card.tile_px:
            what = f"tiles overlap by {grid.overlap_px} px, the predictor expects {card.overlap_px}"
            problems.append(Problem(code="P03", where=where, what=what, remedy=_SAME_TILES))
        elif apart:
            flags.append(f"overlap {apart} px off")
    if not grid.is_level0:
        flags.append("places not in level-0 px")
    scales = [
        ("mpp", "um/px", grid.mpp, card.mpp),
        ("magnification", "x", grid.magnification, card.magnification),
    ]
    known = [
        (n, u, got, want) for n, u, got, want in scales if got is not None and want is not None
    ]
    for name, unit, got, wanted in known:
        off = abs(got / wanted - 1)
        if off > _SCALE_TOLERANCE:
            what = f"{name} is {got:g} {unit}, the predictor expects {wanted:g} {unit}"
            problems.append(Problem(code="P03", where=where, what=what, remedy=_SAME_TILES))
        elif off > _SCALE_NOTED:
            flags.append(f"{name} {off:.1%} off")
    return problems, flags if known else [*flags, "resolution unverified"]


def _examine_graph(bag: Bag, card: Card) -> list[Problem]:
    where, k = f"slide {bag.slide_id}", card.neighbours
    if bag.neighbours is None:
        what = f"no tile coordinates, and {card.model} needs them for its graph"
        remedy = "write 'coords' into the feature file"
        return [Problem(code="F16", where=where, what=what, remedy=remedy)]
    if bag.neighbours.shape[1] != k:
        what = f"graph of {bag.neighbours.shape[1]} neighbours, the predictor expects {k}"
        return [Problem(code="P03", where=where, what=what, remedy=f"read_bag(..., k={k})")]
    return []
