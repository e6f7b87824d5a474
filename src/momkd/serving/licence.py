"""What terms an encoder hands down to the models that were trained on its embeddings."""

from momkd.slides.encoders.table import ENCODERS

# tags that the Hub knows; any other licence is "other" there, with its name beside it
_HUB_TAGS = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-nd-4.0"})
_STRICT = ("uni", "conch", "titan")


def encoder_licence(encoder: str | None) -> str | None:
    """Give the licence of an encoder's weights as its publisher states it; None if unknown."""
    name = (encoder or "").casefold()
    if name in ENCODERS:
        return ENCODERS[name].licence
    return "cc-by-nc-nd-4.0" if name.startswith(_STRICT) else None


def inherited_licence(encoder: str | None) -> str:
    """Give the licence tag that an encoder hands down; ``other`` where the Hub knows none.

    The cards of UNI and CONCH count models trained on their outputs as derivatives.
    """
    licence = encoder_licence(encoder)
    return licence if licence in _HUB_TAGS else "other"


def encoder_source(encoder: str | None) -> str | None:
    """Give the repository of an encoder on the Hub; None if it is not there, or unknown."""
    recipe = ENCODERS.get((encoder or "").casefold())
    return recipe.source if recipe is not None and "/" in recipe.source else None
