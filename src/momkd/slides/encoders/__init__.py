"""Tile encoders: a view of a tile becomes an embedding.

An encoder's identity is its network, its weights (by digest) and its preprocessing: two files
made with another of the three are files of two encoders. Names are light to import; networks are
loaded when asked for.
"""

from typing import TYPE_CHECKING, Any

from momkd.slides.encoders.recipe import EncoderRecipe
from momkd.slides.encoders.table import DEFAULT_ENCODER, ENCODERS

if TYPE_CHECKING:
    from momkd.slides.encoders.embed import Encoder
    from momkd.slides.encoders.load import load_encoder

__all__ = ["DEFAULT_ENCODER", "ENCODERS", "Encoder", "EncoderRecipe", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        from momkd.slides.encoders.embed import Encoder

        return Encoder
    if name == "load_encoder":
        from momkd.slides.encoders.load import load_encoder

        return load_encoder
    raise AttributeError(name)
