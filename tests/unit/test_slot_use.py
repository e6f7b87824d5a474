"""Hand-made memories: who uses which slot, how much it says, and which say the same."""

import numpy as np
import pytest

from momkd.evaluation.slot_use import (
    compare_slots,
    mean_use,
    principal_plane,
    slide_use,
)

# four tiles, two slots a class: [negative 1, negative 2], [positive 1, positive 2]
COSINES = np.array(
    [
        [[0.1, 0.0], [0.9, 0.2]],  # positive 1, by 0.8
        [[0.1, 0.2], [0.5, 0.1]],  # positive 1, by 0.3; negative 2 is the nearest of its class
        [[0.7, 0.1], [0.6, 0.5]],  # negative 1, by 0.1; positive 1 of its class
        [[0.9, 0.1], [0.0, 0.1]],  # negative 1, by 0.8; positive 2 of its class
    ]
)
ATTENTION = np.array([0.4, 0.3, 0.2, 0.1])


def test_shares_by_hand() -> None:
    use = slide_use(COSINES, ATTENTION)
    np.testing.assert_allclose(use.use, [[0.75, 0.25], [0.75, 0.25]])
    np.testing.assert_allclose(use.votes, [[0.5, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(use.evidence, [[0.45, 0.0], [0.55, 0.0]])
    np.testing.assert_allclose(use.attention, [[0.3, 0.0], [0.7, 0.0]])
    np.testing.assert_allclose(use.perplexity, np.full(2, 4 / 3**0.75))
    assert not use.dead.any()


def test_a_slot_is_dead_below_a_tenth_of_an_even_share() -> None:
    cosines = np.zeros((40, 2, 2))
    cosines[:, :, 0] = 1.0
    cosines[0, 1] = 0.0, 1.0  # 1 of 40 tiles: half of a tenth of an even share
    assert slide_use(cosines, np.full(40, 1 / 40)).dead.tolist() == [[False, True], [False, True]]
    cosines[1, 1] = 0.0, 1.0  # 2 of 40: just a tenth
    assert slide_use(cosines, np.full(40, 1 / 40)).dead.tolist() == [[False, True], [False, False]]


def test_a_slide_that_says_nothing_has_no_evidence_to_share() -> None:
    use = slide_use(np.full((3, 2, 2), 0.5), np.full(3, 1 / 3))
    assert use.evidence.sum() == 0
    assert use.votes.sum() == pytest.approx(1)


def test_parts_count_once_each_however_many_tiles_they_have() -> None:
    one = slide_use(COSINES, ATTENTION)
    other = slide_use(COSINES[3:].repeat(50, axis=0), np.full(50, 0.02))
    mean = mean_use([one, other])
    np.testing.assert_allclose(mean.use, [[0.875, 0.125], [0.375, 0.625]])
    np.testing.assert_allclose(mean.evidence.sum(), 1)


def test_duplicates_and_twins_are_found() -> None:
    tilted = np.array([np.cos(0.1), np.sin(0.1), 0.0])
    slots = np.array([[[1, 0, 0], [0, 0, 1.0]], [tilted, [0, 1, 0]]])
    like = compare_slots(slots)
    np.testing.assert_allclose(like.own, [[0, 0], [np.sin(0.1)] * 2], atol=1e-12)
    np.testing.assert_allclose(like.other, [[np.cos(0.1), 0], [np.cos(0.1), 0]], atol=1e-12)
    assert like.own_slot.tolist() == [[1, 0], [1, 0]]
    assert like.other_slot[:, 0].tolist() == [0, 0]
    assert like.twin.tolist() == [[True, False], [True, False]]
    assert not like.duplicate.any()
    same = compare_slots(np.array([[[1.0, 0], [1.0, 0]], [[0, 1.0], [0.6, 0.8]]]))
    assert same.duplicate.tolist() == [[True, True], [False, False]]
    alone = compare_slots(np.array([[[1.0, 0]], [[0, 1.0]]]))
    assert np.isnan(alone.own).all()
    assert not alone.duplicate.any()


def test_the_plane_keeps_what_lies_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20, 2)) * [3, 1]
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    places, shares = principal_plane(flat @ turned + 7)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > shares[1]
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places[None], axis=2), gaps)
    again, _ = principal_plane((flat @ turned + 7)[::-1])
    np.testing.assert_allclose(again[::-1], places, atol=1e-9)
    alone, none = principal_plane(np.ones((1, 3)))
    assert alone.tolist() == [[0, 0]]
    assert none.tolist() == [0, 0]
