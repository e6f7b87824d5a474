"""Tiles placed by micrometres alone are near the same tiles as on level 0, for any lattice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from momkd.data.graph import nearest_neighbours
from momkd.data.layouts.geometry import compare, complete, pitch_px0, place_on_view
from momkd.data.layouts.material import Geometry

CELLS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=60, unique=True
)


@given(
    cells=CELLS,
    mpp0=st.floats(0.11, 1.1),
    side_px0=st.integers(64, 2000),
    origin=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    view_px=st.sampled_from([224, 256, 512]),
)
def test_micrometres_keep_who_is_near_whom(cells, mpp0, side_px0, origin, view_px) -> None:
    # neighbours on one line give the pitch, as the tiles of any tissue do
    cells = np.unique(np.array([*cells, (7, 9), (8, 9)]), axis=0)
    corners_px0 = cells * side_px0 + np.array(origin)
    um = (corners_px0 * mpp0).astype(np.float32)  # as STAMP stores them
    placed, lattice = place_on_view(um, side_px0 * mpp0 / view_px)
    assert (placed == np.round(placed)).all()
    pitch = pitch_px0(corners_px0)
    if lattice:
        ours = nearest_neighbours(placed.astype(np.int64), 8)
        theirs = nearest_neighbours(corners_px0, 8)
        assert np.array_equal(ours, theirs)
    if pitch == side_px0:
        assert lattice


@given(side=st.floats(16, 4096), share=st.floats(0.3, 3), overlap=st.integers(0, 200))
def test_a_step_within_a_twentieth_is_no_matter(side, share, overlap) -> None:
    geometry = Geometry(tile_px0=side, tile_px=256, overlap_px=overlap)
    step = side * (1 - overlap / 256) * share
    assert bool(compare(geometry, step)) == (abs(share - 1) > 0.05 + 1e-9) or (
        abs(abs(share - 1) - 0.05) < 1e-6
    )
    assert complete(geometry, step) == (geometry, ())
    assert complete(Geometry(), step)[0].tile_px0 == step
