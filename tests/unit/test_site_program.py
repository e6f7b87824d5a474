"""The integer programmes give the best there is, told by trying every assignment."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from momkd.data.site_program import choose_sites, share_out

tables = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 6)).filter(any), min_size=2, max_size=6
).map(lambda rows: np.array(rows, dtype=np.int64))


def excess(counts: np.ndarray, group: np.ndarray, n: int) -> float:
    total = counts.sum(axis=0)
    held = np.stack([counts[group == g].sum(axis=0) for g in range(n)])
    low, high = np.floor(total / n), np.ceil(total / n)
    off = np.maximum(0, np.maximum(low - held, held - high))
    return float((off / np.maximum(total, 1)).sum())


def is_allowed(counts: np.ndarray, group: np.ndarray, n: int) -> bool:
    total = counts.sum(axis=0)
    held = np.stack([counts[group == g].sum(axis=0) for g in range(n)])
    return bool((held >= 1).all() and (total - held >= 2).all())


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(2, 3))
def test_sites_are_shared_out_as_evenly_as_any_way_there_is(counts: np.ndarray, n: int) -> None:
    ways = [np.array(g) for g in product(range(n), repeat=len(counts))]
    allowed = [excess(counts, g, n) for g in ways if is_allowed(counts, g, n)]
    found = share_out(counts, n)
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert found.is_optimal
    assert is_allowed(counts, found.group, n)
    assert abs(excess(counts, found.group, n) - min(allowed)) < 1e-6
    assert abs(found.excess - min(allowed)) < 1e-6


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(1, 6), st.integers(1, 4))
def test_sites_are_chosen_as_near_to_the_wish_as_any(counts: np.ndarray, no: int, yes: int) -> None:
    wanted = np.array([no, yes], dtype=np.int64)
    total = counts.sum(axis=0)

    def miss(mask: np.ndarray) -> float:
        return float((np.abs(counts[mask].sum(axis=0) - wanted) / wanted).sum())

    def fits(mask: np.ndarray) -> bool:
        held = counts[mask].sum(axis=0)
        enough = held >= np.maximum(1, np.ceil(wanted / 2))
        return bool((enough & (held <= np.minimum(total - 1, 2 * wanted))).all())

    masks = [np.array(m) for m in product([False, True], repeat=len(counts))]
    allowed = [miss(m) for m in masks if fits(m)]
    chosen = choose_sites(counts, wanted)
    if not allowed:
        assert chosen is None
        return
    assert chosen is not None
    assert fits(chosen)
    assert abs(miss(chosen) - min(allowed)) < 1e-6


def test_a_search_that_is_cut_short_says_so() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 40, size=(12, 2))
    counts[:3] *= 4
    cut = share_out(counts, 5, max_nodes=1)
    whole = share_out(counts, 5)
    assert whole is not None
    assert whole.is_optimal
    if cut is not None and cut.excess > whole.excess + 1e-9:
        assert not cut.is_optimal
