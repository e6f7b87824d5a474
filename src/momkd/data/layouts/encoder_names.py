"""One encoder under the names that different tools give it.

Only names are listed whose tools feed the same weights and keep the same output; an encoder that
is not listed keeps its name.
"""

_ALIASES = {
    "uni": "uni_v1",
    "uni2": "uni_v2",
    "uni2-h": "uni_v2",
    "conch": "conch_v1",
    "conch1_5": "conch_v15",
    "conch_v1.5": "conch_v15",
    "prov-gigapath": "gigapath",
    "h-optimus-0": "hoptimus0",
    "h-optimus-1": "hoptimus1",
    "phikonv2": "phikon_v2",
}


def known_name(encoder: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Give an encoder the name it has in TRIDENT's files and in predictors, and say so.

    Returns
    -------
    str or None
        The name; None if the file states none.
    tuple of str
        What has to be said.
    """
    if encoder is None:
        return None, ()
    name = _ALIASES.get(encoder.casefold())
    return (encoder, ()) if name is None else (name, (f"encoder '{encoder}' is {name} here",))
