"""Genes that are looked for by name: those that define a label, and those that tell a sex."""

import re

# Oncotype DX: 16 cancer genes and 5 reference genes (Paik et al., NEJM 2004), as HGNC names them
_ODX = (
    "MKI67 AURKA BIRC5 CCNB1 MYBL2 GRB7 ERBB2 ESR1 PGR BCL2 SCUBE2 MMP11 CTSV GSTM1 CD68 BAG1 "
    "ACTB GAPDH RPLP0 GUSB TFRC"
)
_DEFINING = {
    **dict.fromkeys(("her2", "erbb2"), ("ERBB2",)),
    **dict.fromkeys(("pr", "pgr"), ("PGR",)),
    **dict.fromkeys(("er", "esr1"), ("ESR1",)),
    **dict.fromkeys(("odx", "oncotype", "oncotypedx"), tuple(_ODX.split())),
}

ON_X = "XIST"
"""Read in cells with two X chromosomes."""

ON_Y = ("RPS4Y1", "DDX3Y", "KDM5D", "EIF1AY", "UTY", "USP9Y", "ZFY")
"""Read in cells with a Y chromosome."""

_ENSEMBL = {
    "ERBB2": "ENSG00000141736",
    "ESR1": "ENSG00000091831",
    "PGR": "ENSG00000082175",
    "XIST": "ENSG00000229807",
    "RPS4Y1": "ENSG00000129824",
    "DDX3Y": "ENSG00000067048",
    "KDM5D": "ENSG00000012817",
    "EIF1AY": "ENSG00000198692",
    "UTY": "ENSG00000183878",
    "USP9Y": "ENSG00000114374",
    "ZFY": "ENSG00000067646",
}


def defining_genes(target: str | None) -> tuple[str, ...]:
    """Give the genes that measure what a label is about: ``her2_status_by_ihc`` -> ERBB2."""
    words = re.findall("[a-z]+[12]?|[0-9]+", (target or "").casefold())
    wanted = {gene for word in words for gene in _DEFINING.get(word, ())}
    return tuple(g for g in _ODX.split() if g in wanted)


def spellings(symbol: str) -> tuple[str, ...]:
    """Give the names under which a table may hold a gene: its symbol, and its Ensembl id."""
    ensembl = _ENSEMBL.get(symbol)
    return (symbol,) if ensembl is None else (symbol, ensembl)
