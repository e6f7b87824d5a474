"""Nearest neighbours against brute force, whatever the places and their order."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from momkd.data import graph
from momkd.data.graph import nearest_neighbours


def brute_force(coords: np.ndarray, k: int) -> np.ndarray:
    """Rank all others by (distance, y, x, row) in whole numbers."""
    near = np.full((len(coords), k), -1)
    for i in range(len(coords)):
        gaps = [(c - coords[i], j) for j, c in enumerate(coords) if j != i]
        ranked = sorted((int(g @ g), int(g[1]), int(g[0]), j) for g, j in gaps)
        for place, (*_, j) in enumerate(ranked[:k]):
            near[i, place] = j
    return near


def places(high: int) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 40), st.just(2))
    return shape.flatmap(lambda s: hnp.arrays(np.int64, s, elements=st.integers(0, high)))


def lattices() -> st.SearchStrategy[np.ndarray]:
    """Some places of a lattice with steps of its own in x and y, in any order."""
    cells = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=60)
    steps = st.tuples(st.integers(1, 40), st.integers(1, 40))
    return st.builds(lambda c, s: np.array(c, dtype=np.int64) * s, cells.map(distinct), steps)


def distinct(cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return list(dict.fromkeys(cells))


any_places = st.one_of(places(2), places(9), places(300), places(10**6), lattices())


@pytest.fixture(scope="module", params=["compiled", "arrays"])
def search(request: pytest.FixtureRequest) -> Callable[[np.ndarray, int], np.ndarray]:
    """Each of the two searches; the compiled one is what ``nearest_neighbours`` takes if it can."""
    compiled = graph.compiled_search()
    if request.param == "arrays":
        return graph.search_arrays
    if compiled is None:
        pytest.skip("numba is absent or does not work here")
    return compiled


@settings(max_examples=150, deadline=None)
@given(coords=any_places, k=st.integers(1, 10))
def test_equals_brute_force(
    search: Callable[[np.ndarray, int], np.ndarray], coords: np.ndarray, k: int
) -> None:
    wanted = brute_force(coords, k)
    assert np.array_equal(nearest_neighbours(coords, k), wanted)
    k_eff = min(k, len(coords) - 1)
    if k_eff > 0:
        assert np.array_equal(search(coords - coords.min(axis=0), k_eff), wanted[:, :k_eff])


def test_without_numba_the_arrays_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    coords = np.random.default_rng(0).integers(0, 500, (60, 2))
    wanted = nearest_neighbours(coords, 8)
    graph.compiled_search.cache_clear()
    monkeypatch.setattr(graph, "numba_fault", lambda: "numba is not installed")
    try:
        assert graph.compiled_search() is None
        assert np.array_equal(nearest_neighbours(coords, 8), wanted)
    finally:
        graph.compiled_search.cache_clear()


@pytest.mark.parametrize("n_lonely", [3, 40])
def test_searches_agree_on_a_large_section(
    search: Callable[[np.ndarray, int], np.ndarray], n_lonely: int
) -> None:
    rng = np.random.default_rng(n_lonely)
    side = 60
    kept = rng.permutation(side * side)[:2500]
    section = 512 * np.stack([kept % side, kept // side], axis=1)
    lonely = 512 * rng.integers(0, 5000, (n_lonely, 2))
    coords = np.unique(np.concatenate([section, lonely]), axis=0).astype(np.int64)
    assert np.array_equal(search(coords, 8), graph.search_arrays(coords, 8))


@settings(max_examples=60, deadline=None)
@given(places(9), st.randoms(use_true_random=False))
def test_order_of_rows_plays_no_part(coords: np.ndarray, random: object) -> None:
    coords = np.unique(coords, axis=0)  # tiles at one place are told apart by row alone
    order = list(range(len(coords)))
    random.shuffle(order)  # type: ignore[attr-defined]
    here = nearest_neighbours(coords, 4)
    there = nearest_neighbours(coords[order], 4)
    renamed = np.where(there >= 0, np.array(order)[there], -1)
    assert np.array_equal(renamed, here[order])


@settings(max_examples=40, deadline=None)
@given(places(50), st.integers(0, 10**7), st.integers(0, 10**7))
def test_place_of_the_slide_plays_no_part(coords: np.ndarray, dx: int, dy: int) -> None:
    moved = coords + np.array([dx, dy])
    assert np.array_equal(nearest_neighbours(coords, 8), nearest_neighbours(moved, 8))


def test_many_tiles_far_clusters_and_lonely_ones() -> None:
    rng = np.random.default_rng(0)
    lattice = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1).reshape(-1, 2) * 512
    lonely = rng.integers(0, 10**8, (5, 2))
    coords = np.concatenate([lattice, lattice[:300] + 10**7, lonely]).astype(np.int64)
    rows = [0, 41, 800, 1599, 1700, len(coords) - 1, len(coords) - 3]
    near = nearest_neighbours(coords, 8)
    for row in rows:
        gap = coords - coords[row]
        ranked = np.lexsort((np.arange(len(coords)), gap[:, 0], gap[:, 1], (gap**2).sum(axis=1)))
        assert near[row].tolist() == [i for i in ranked if i != row][:8]


def test_inner_tiles_of_a_lattice_have_their_eight_neighbours() -> None:
    side = 20
    lattice = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 256
    near = nearest_neighbours(lattice.astype(np.int64), 8)
    centre = 10 * side + 10
    around = {centre + dy * side + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)} - {centre}
    assert set(near[centre].tolist()) == around
