"""Preset ``paper``, equations 1-11, done again with loops over tiles, slots and edges."""

import math

import numpy as np
import pytest
import torch

from momkd.models.table import build_model
from momkd.types import Bag, Dims, Sample

N_TILES, DIM_IN, N_GENES, K = 9, 7, 11, 3
OPTIONS = {
    "dim": 6,
    "dim_shared": 5,
    "dim_rna": 4,
    "dim_rna_hidden": 8,
    "n_slots": 3,
    "dropout": 0,
    "dropout_attention": 0,
    "dropout_rna": 0,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    dims = Dims(dim_in=DIM_IN, n_genes=N_GENES)
    model = build_model("momkd", dims, "paper", OPTIONS).double()
    model.memory.renormalise()  # the slots were unit vectors in float32
    return model


@pytest.fixture(scope="module")
def sample():
    generator = torch.Generator().manual_seed(4)
    order = [torch.randperm(N_TILES - 1, generator=generator)[:K] for _ in range(N_TILES)]
    neighbours = torch.stack([o + (o >= i) for i, o in enumerate(order)]).int()
    neighbours[0, 1:] = -1
    x = torch.randn(N_TILES, DIM_IN, generator=generator).double()
    rna = torch.randn(N_GENES, generator=generator)
    bag = Bag(slide_id="s", embeddings=x, neighbours=neighbours)
    return Sample(case_id="c", label=1, bag=bag, rna=rna)


def linear(layer, x):
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


def layer_norm(layer, x):
    unit = (x - x.mean()) / math.sqrt(x.var() + layer.eps)
    return unit * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def graph_layer(layer, x, heard):
    a = layer.attention.detach().numpy()
    rows = []
    for i in range(len(x)):
        heads = []
        for head in range(len(a)):
            part = slice(head * a.shape[1], (head + 1) * a.shape[1])
            scores, values = [], []
            for j in heard[i]:
                source = linear(layer.source, x[j])[part]
                mixed = source + linear(layer.target, x[i])[part]
                scores.append(float(a[head] @ np.where(mixed > 0, mixed, 0.2 * mixed)))
                values.append(source)
            total = sum(math.exp(s) for s in scores)
            heads.append(sum(math.exp(s) / total * v for s, v in zip(scores, values, strict=True)))
        rows.append(np.concatenate(heads) + layer.bias.detach().numpy())
    return rows


def encode(encoder, x, heard):
    def elu(v):
        return np.where(v > 0, v, np.exp(np.minimum(v, 0)) - 1)

    first = [
        elu(layer_norm(encoder.norm_1, y)) + linear(encoder.residual, x[i])
        for i, y in enumerate(graph_layer(encoder.graph_1, x, heard))
    ]
    second = [
        elu(layer_norm(encoder.norm_2, y)) + first[i]
        for i, y in enumerate(graph_layer(encoder.graph_2, first, heard))
    ]
    return [np.maximum(a, b) for a, b in zip(first, second, strict=True)]


def tower(layers, x):
    return linear(layers[4], np.maximum(layer_norm(layers[1], linear(layers[0], x)), 0))


def unit(v):
    return v / math.sqrt(float(v @ v))


def phi(f, slots):
    return math.log(sum(math.exp(5 * float(f @ c)) for c in slots)) / 5


@pytest.mark.parametrize("label", [0, 1])
def test_plain_recomputation(model, sample, label):
    x = sample.bag.embeddings.numpy()
    heard = [
        [i, *(j for j in row if j >= 0)] for i, row in enumerate(sample.bag.neighbours.tolist())
    ]
    negative, positive = model.memory.slots.detach().numpy()
    tiles = encode(model.encoder, x, heard)
    points = [unit(linear(model.tile_projection, f)) for f in tiles]
    scores = [
        max(float(p @ c) for c in positive) - max(float(p @ c) for c in negative) for p in points
    ]
    powers = [math.exp(s / 0.2) for s in scores]
    attention = [w / sum(powers) for w in powers]
    slide = sum(a * f for a, f in zip(attention, tiles, strict=True))
    logits = linear(model.head, slide)
    output = model.eval()(sample.bag)
    np.testing.assert_allclose(output.attention.detach(), attention, atol=1e-12, rtol=0)
    np.testing.assert_allclose(output.embedding.detach(), slide, atol=1e-12, rtol=0)
    np.testing.assert_allclose(output.logits.detach(), logits, atol=1e-12, rtol=0)

    rna = sample.rna.double().numpy()
    encoded = tower(model.rna_encoder, rna)
    terms = {"ce": math.log(sum(math.exp(y) for y in logits)) - logits[label]}
    for name, vector in [
        ("align_wsi", unit(linear(model.slide_projection, slide))),
        ("align_omics", unit(linear(model.rna_projection, encoded))),
    ]:
        delta = phi(vector, positive) - phi(vector, negative)
        sign = 1 if label == 1 else -1
        terms[name] = math.log1p(math.exp(20 * (0.3 - sign * delta)))
    terms["reconstruction"] = float(np.mean((tower(model.rna_decoder, encoded) - rna) ** 2))
    own = positive if label == 1 else negative
    pull = np.mean([min(float((p - c) @ (p - c)) for c in own) for p in points])
    spread = sum(
        float(c @ d) ** 2
        for slots in (positive, negative)
        for i, c in enumerate(slots)
        for j, d in enumerate(slots)
        if i != j
    )
    terms["memory"] = pull + spread

    weights = {
        "ce": 0.5,
        "memory": 0.1,
        "align_omics": 0.05,
        "align_wsi": 0.2,
        "reconstruction": 0.01,
    }
    losses = model.train().losses(
        [Sample(case_id="c", label=label, bag=sample.bag, rna=sample.rna)]
    )
    assert set(losses.terms) == set(terms)
    for name, value in terms.items():
        assert losses.terms[name].item() == pytest.approx(weights[name] * value, abs=1e-9), name
