"""Stored scores as the page reads them, and files that hold none."""

import h5py
import numpy as np
import pytest

from momkd.errors import DataError
from momkd.viewer.stored_scores import read_scores
from tests.viewer_parts import write_scores


def test_attention_and_evidence_are_layers_with_units(tmp_path):
    stored = read_scores(write_scores(tmp_path / "s.h5"))
    attention, evidence = (layer.told() for layer in stored.layers)
    assert (attention["name"], attention["unit"], attention["kind"]) == (
        "attention",
        "x an even share",
        "share",
    )
    assert attention["values"] == [1.0] * 16
    assert (attention["low"], attention["high"]) == (0.0, 1.0)
    assert (evidence["name"], evidence["unit"], evidence["kind"]) == (
        "class evidence",
        "logits",
        "signed",
    )
    assert evidence["low"] == -evidence["high"] < -1.9
    told = stored.told()
    assert (told["x"][1], told["y"][1], told["tile_px0"], told["n_tiles"]) == (256, 0, 256.0, 16)
    assert stored.mpp0 == 1.0
    assert told["facts"] == {"class_name": "HER2", "probability": 0.75, "low": 0.7, "high": 0.8}


def test_whatever_else_is_stored_by_tile_becomes_a_layer(tmp_path):
    more = {
        "slots": np.linspace(0, 1, 48).reshape(16, 3),
        "similarity": np.linspace(-1, 1, 16),
        "counts": np.arange(16),
        "too_short": np.zeros(5),
        "cube": np.zeros((16, 2, 2)),
        "words": np.array([b"x"] * 16),
    }
    path = write_scores(tmp_path / "s.h5", **more)
    with h5py.File(path, "a") as file:
        file["slots"].attrs["title"] = "slot"
        file["slots"].attrs["names"] = ["p1", "p2", "<script>"]
        file["counts"].attrs.update({"unit": "nuclei", "title": "cells"})
        file["similarity"][3] = np.nan
        file.create_group("group")
    layers = {layer.name: layer.told() for layer in read_scores(path).layers}
    assert list(layers) == [
        *("attention", "class evidence", "cells", "similarity"),
        *("slot: p1", "slot: p2", "slot: <script>"),
    ]
    assert (layers["cells"]["unit"], layers["cells"]["kind"]) == ("nuclei", "plain")
    assert layers["similarity"]["kind"] == "signed"
    assert layers["similarity"]["values"][3] is None
    assert layers["slot: p2"]["values"][0] == pytest.approx(1 / 47, abs=1e-5)


def test_no_more_columns_than_anybody_can_choose_among(tmp_path):
    path = write_scores(tmp_path / "s.h5", many=np.ones((16, 500)))
    layers = read_scores(path).layers
    assert len(layers) == 2 + 64
    assert layers[-1].told()["low"] < layers[-1].told()["high"]


def test_places_not_in_pixels_of_the_slide_are_not_given(tmp_path):
    path = write_scores(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        file["coords_px0"].attrs["is_level0"] = False
    stored = read_scores(path)
    assert stored.corners_px0 is None
    assert stored.told()["x"] is None


def test_without_a_stated_side_tiles_are_as_wide_as_the_smallest_step(tmp_path):
    path = write_scores(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        for key in ("tile_px0", "mpp"):
            del file["coords_px0"].attrs[key]
    stored = read_scores(path)
    assert (stored.tile_px0, stored.mpp0) == (256.0, None)


def spoil_nothing(file):
    del file["attention"]


def spoil_length(file):
    del file["coords_px0"]
    file["coords_px0"] = np.zeros((3, 2))


def spoil_attrs(file):
    del file.attrs["slide_id"]


def spoil_empty(file):
    del file["attention"]
    file["attention"] = np.zeros(0)


def spoil_words(file):
    del file["attention"]
    file["attention"] = np.array([b"x"] * 16)


def spoil_group(file):
    del file["attention"]
    file.create_group("attention")


def spoil_huge(file):
    del file["attention"]
    file.create_dataset("attention", shape=(10**12,), dtype="f4", chunks=(1024,))


def spoil_link(file):
    del file["coords_px0"]
    file["coords_px0"] = h5py.ExternalLink("/etc/other.h5", "/coords")


def spoil_storage(file):
    del file["attention"]
    file.create_dataset("attention", (16,), "f4", external=[("/etc/hostname", 0, 64)])


SPOILT = [spoil_nothing, spoil_length, spoil_attrs, spoil_empty, spoil_words, spoil_group]
SPOILT += [spoil_huge, spoil_link, spoil_storage]


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_file_that_holds_no_scores_is_refused(tmp_path, spoil):
    path = write_scores(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(DataError, match="P18") as refusal:
        read_scores(path)
    assert str(tmp_path) not in refusal.value.problems[0].line()


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "s.h5").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="P18"):
        read_scores(tmp_path / "s.h5")


def test_cosines_to_slots_are_a_layer_a_slot(tmp_path):
    cosines = np.linspace(-1, 1, 16 * 2 * 3).reshape(16, 2, 3)
    stored = read_scores(write_scores(tmp_path / "s.h5", slot_cosines=cosines))
    slots = [layer for layer in stored.layers if layer.name.startswith("slot ")]
    assert [layer.name for layer in slots][2:4] == ["slot 3 of class 0", "slot 1 of class 1"]
    assert {layer.unit for layer in slots} == {"cosine"}
    np.testing.assert_allclose(slots[4].values, cosines[:, 1, 1], rtol=1e-6)
