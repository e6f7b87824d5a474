"""Class evidence: exact where a model is linear, finite for every model, absent where undefined."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from momkd.models.table import MODELS, build_model
from momkd.serving import evidence
from momkd.serving.evidence import class_evidence
from momkd.types import Bag, Dims, TileGrid

NO_GRADIENT = ("dtfd_mil",)


@pytest.fixture(scope="module")
def bag():
    side = 6
    corners = np.array([[x * 64, y * 64] for y in range(side) for x in range(side)])
    near = (torch.arange(side * side)[:, None] + torch.arange(1, 9)) % (side * side)
    return Bag(
        slide_id="s",
        embeddings=torch.randn(side * side, 24, generator=torch.Generator().manual_seed(0)),
        grid=TileGrid(slide_id="s", coords_px0=corners, tile_px0=64.0),
        neighbours=near.to(torch.int32),
    )


def make(name):
    torch.manual_seed(1)
    model = build_model(name, Dims(dim_in=24)).eval().requires_grad_(False)
    with torch.no_grad():  # some start at zero
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        if name == "mean_logistic":  # what it fits are buffers
            model.weight += torch.randn_like(model.weight)
    return model


def test_it_adds_up_to_the_logits_of_a_linear_model(bag):
    model = make("mean_logistic")
    found = class_evidence(model, bag)
    with torch.inference_mode():
        logits = model(bag).logits
        empty = model(replace(bag, embeddings=torch.zeros_like(bag.embeddings))).logits
    share = (logits - empty)[1] - (logits - empty)[0]
    assert abs(float(share)) > 1e-3
    assert found.sum() == pytest.approx(float(share), abs=1e-5)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in NO_GRADIENT])
def test_every_model_with_a_gradient_has_it_and_it_points_uphill(bag, name):
    model = make(name)
    found = class_evidence(model, bag)
    assert found.shape == (len(bag),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found != 0).any()
    # what a tile is given is the slope of the logits along its own embedding
    tile = int(np.abs(found).argmax())
    step = 1e-2

    def difference(scale):
        embeddings = bag.embeddings.double().clone()
        embeddings[tile] *= scale
        with torch.inference_mode():
            logits = model.double()(replace(bag, embeddings=embeddings)).logits
        return float(logits[1] - logits[0])

    slope = (difference(1 + step) - difference(1 - step)) / (2 * step)
    model.float()
    assert found[tile] == pytest.approx(slope, rel=0.1, abs=1e-4)


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_model_without_a_gradient_has_none(bag, name):
    assert class_evidence(make(name), bag) is None


def test_a_very_large_slide_has_none(bag, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_TILES", 10)
    assert class_evidence(make("abmil"), bag) is None


def test_half_precision_embeddings_are_read(bag):
    half = replace(bag, embeddings=bag.embeddings.half())
    found = class_evidence(make("abmil"), half)
    np.testing.assert_allclose(found, class_evidence(make("abmil"), bag), rtol=0.05, atol=1e-4)
