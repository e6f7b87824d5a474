"""A slide of 60,000 x 60,000 px, more than ten gigabytes when decoded, in one."""

import pytest

from benchmarks.large_slide import extract_and_measure, write_slide


@pytest.mark.slow
@pytest.mark.parametrize("pyramid", [True, False], ids=["pyramid", "flat"])
def test_a_large_slide_is_tiled_within_a_gibibyte(pyramid, tmp_path):
    """Without a pyramid the thumbnail is made from all of level 0: that takes minutes."""
    slide = write_slide(tmp_path / "large.tif", 60_000, pyramid=pyramid)
    found = extract_and_measure(slide, tmp_path / "features")
    assert found["tiles"] > 20
    assert found["peak_pss_gib"] < 1.0
