"""Who hears whom among the tiles of a slide, from each tile's nearest tiles."""

from collections.abc import MutableMapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

Direction = Literal["own", "listed_by"]


def listening_lists(
    neighbours: Int32[Tensor, "n_tiles k"], direction: Direction
) -> Int64[Tensor, "n_tiles n_heard"]:
    """Give for each tile whom it hears; first itself, -1 where its list is shorter than others.

    Parameters
    ----------
    neighbours
        Each tile's nearest tiles, -1 for none.
    direction
        ``own``: a tile hears the tiles it lists. ``listed_by``: it hears the tiles that list it.
    """
    n_tiles = neighbours.shape[0]
    itself = torch.arange(n_tiles, device=neighbours.device)
    listed = neighbours.long()
    if direction == "own":
        return torch.cat([itself[:, None], listed], dim=1)
    if torch.compiler.is_exporting():
        return torch.cat([itself[:, None], _listeners_of(listed)], dim=1)
    hearer, place = torch.sort(listed.flatten(), stable=True)
    n_none = int((hearer < 0).sum())
    hearer, place = hearer[n_none:], place[n_none:]
    n_heard = torch.bincount(hearer, minlength=n_tiles)
    first = torch.cumsum(n_heard, 0) - n_heard
    rank = torch.arange(len(hearer), device=hearer.device) - first.index_select(0, hearer)
    lists = listed.new_full((n_tiles, 1 + int(n_heard.max())), -1)
    lists[:, 0] = itself
    lists[hearer, 1 + rank] = torch.div(place, max(listed.shape[1], 1), rounding_mode="floor")
    return lists


def _listeners_of(listed: Int64[Tensor, "n_tiles k"]) -> Int64[Tensor, "n_tiles n_heard"]:
    """Turn lists about, for graphs that are exported: one width comes from the data, no branch.

    Row 0 takes in what is listed as -1 and is cut off at the end.
    """
    n_tiles, k = listed.shape
    hearer, place = torch.sort(listed.flatten() + 1)  # order within a list is of no account
    n_heard = hearer.new_zeros(n_tiles + 1).index_add(0, hearer, torch.ones_like(hearer))
    first = torch.cumsum(n_heard, 0) - n_heard
    rank = torch.arange(n_tiles * k, device=hearer.device) - first.index_select(0, hearer)
    rank = torch.where(hearer > 0, rank, 0)
    width: Any = n_heard[1:].max().clamp(min=1).item()  # a symbol while a graph is made
    torch._check(width >= 1)  # type: ignore[no-untyped-call]
    lists = hearer.new_full((n_tiles + 1, width), -1)
    return lists.index_put((hearer, rank), torch.div(place, k, rounding_mode="floor"))[1:]


def pack_neighbours(
    parts: Sequence[Int32[Tensor, "_ _"]],
) -> Int32[Tensor, "n_tiles k"]:
    """Join the neighbour lists of several bags as those of one graph without edges between bags."""
    if len(parts) == 1:
        return parts[0]
    k = max(part.shape[1] for part in parts)
    packed, offset = [], 0
    for part in parts:
        shifted = torch.where(part < 0, part, part + offset)
        packed.append(nn.functional.pad(shifted, (0, k - part.shape[1]), value=-1))
        offset += len(part)
    return torch.cat(packed)


class EdgeIndex(NamedTuple):
    """The edges of a graph by both ends; past the last edge the arrays hold nothing of use.

    The edges that tile i hears by are ``starts[i]`` to ``starts[i + 1]``, their sources ``heard``.
    Those by which it is heard are ``edge[back[i] : back[i + 1]]``, and ``who`` hears.
    """

    starts: Int32[Tensor, " n_tiles_1"]
    heard: Int32[Tensor, " n_places"]
    back: Int32[Tensor, " n_tiles_1"]
    who: Int32[Tensor, " n_places"]
    edge: Int32[Tensor, " n_places"]


# by the neighbours, as long as they are there
_KNOWN: MutableMapping[Tensor, dict[Direction, EdgeIndex]] = WeakTensorKeyDictionary()


class TileGraph:
    """A graph of tiles in the forms the backends want, each made when first asked for.

    Edges are numbered list by list, without gaps: the numbers by which dropout masks are drawn.

    Parameters
    ----------
    neighbours
        Each tile's nearest tiles, -1 for none.
    direction
        As of :func:`listening_lists`.
    """

    def __init__(self, neighbours: Int32[Tensor, "n_tiles k"], direction: Direction) -> None:
        self._neighbours = neighbours
        self._direction = direction

    @classmethod
    def of(cls, graph: "TileGraph | Int64[Tensor, 'n_tiles n_heard']") -> "TileGraph":
        """Take listening lists for a graph; give a graph as it is."""
        if isinstance(graph, TileGraph):
            return graph
        made = cls(graph.new_empty(graph.shape[0], 0, dtype=torch.int32), "own")
        made.__dict__["lists"] = graph
        return made

    @cached_property
    def lists(self) -> Int64[Tensor, "n_tiles n_heard"]:
        """Whom each tile hears, as of :func:`listening_lists`."""
        return listening_lists(self._neighbours, self._direction)

    @cached_property
    def places(self) -> Int64[Tensor, "n_tiles n_heard"]:
        """The number of each edge in ``lists``; -1 where there is none."""
        there = self.lists >= 0
        numbers = torch.cumsum(there.flatten(), 0).view_as(self.lists) - 1
        return torch.where(there, numbers, -1)

    @cached_property
    def edges(self) -> tuple[Any, Any, Any, Any, Any]:
        """The edges without gaps, as numpy arrays: (starts, heard) and (starts, who, edge).

        The first pair goes by the tile that hears, the rest by the tile that is heard. Needs numba.
        """
        from momkd.nn.graph_attention.loops.edges import index_edges

        if "lists" in self.__dict__:
            rows, with_itself = self.lists.int(), 0
        else:
            rows, with_itself = self._neighbours, 1
        found = index_edges(rows.contiguous().numpy(), with_itself)
        starts, items, back, sources, there, here = found
        if with_itself and self._direction == "listed_by":
            return back, sources, starts, items, there
        return starts, items, back, sources, here

    @cached_property
    def index(self) -> EdgeIndex:
        """The same edges in the same order as tensors, made where the neighbours are.

        On a CUDA device nothing waits for it: no size is asked of the device. It is kept for as
        long as the neighbours are, because a slide that stays on the device comes again.
        """
        if "lists" in self.__dict__:
            return EdgeIndex(*_index_rows(self.lists, itself=False)[:5])
        known = _KNOWN.get(self._neighbours, {})
        if self._direction not in known:
            known[self._direction] = self._make_index()
            _KNOWN[self._neighbours] = known
        return known[self._direction]

    def _make_index(self) -> EdgeIndex:
        starts, items, back, sources, here, there = _index_rows(self._neighbours, itself=True)
        if self._direction == "listed_by":
            return EdgeIndex(back, sources, starts, items, there)
        return EdgeIndex(starts, items, back, sources, here)


def _index_rows(rows: Tensor, *, itself: bool) -> tuple[Tensor, ...]:
    """Order edges by both ends; with ``itself`` each tile comes first, in its row and back.

    Gives (starts, items) of rows without gaps, the same of the transpose, for each edge of the
    transpose its place in the rows, and for each of the rows its place in the transpose.
    """
    n_tiles = len(rows)
    tiles = torch.arange(n_tiles, device=rows.device)
    rows = rows.long()
    if itself:
        rows = torch.cat([tiles[:, None], rows], dim=1)
    width = rows.shape[1]
    there = rows >= 0
    starts = nn.functional.pad(torch.cumsum(there.sum(dim=1), 0), (1, 0))
    packed = torch.sort((~there).flatten().to(torch.uint8), stable=True).indices
    items = rows.flatten().index_select(0, packed)
    listeners = torch.div(packed, width, rounding_mode="floor")
    key = torch.where(items < 0, n_tiles, items)
    if itself:
        key = 2 * key + (items != listeners)
    key, here = torch.sort(key, stable=True)
    back = torch.searchsorted(key, torch.arange(n_tiles + 1, device=rows.device) * (1 + itself))
    places = torch.empty_like(here)
    places[here] = torch.arange(len(here), device=rows.device)
    sources = listeners.index_select(0, here)
    return tuple(x.int() for x in (starts, items, back, sources, here, places))
