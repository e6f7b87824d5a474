"""What stands behind the names of models on a page, in words for a clinician."""

from collections.abc import Sequence

from momkd.reporting.page import Row, Table

_WORDS = {
    "momkd": ("MoMKD", "compares tiles with learnt patterns (slots) that RNA helped to shape"),
    "abmil": ("ABMIL", "weighs tiles by attention and averages them"),
    "dsmil": ("DSMIL", "finds the most telling tile and weighs the others by likeness to it"),
    "transmil": ("TransMIL", "lets tiles look at one another (transformer) before it decides"),
    "dtfd_mil": ("DTFD-MIL", "cuts a slide into groups of tiles and decides over the groups"),
    "wikg": ("WiKG", "links alike tiles to a graph and reads it"),
    "tdc": ("TDC", "teacher of slide and RNA; its student sees the slide alone"),
    "mkd": ("MKD", "student of several teachers of RNA and slide"),
    "g_hanet": ("G-HANet", "learns to make RNA up from the slide, and decides with it"),
    "mean_logistic": ("mean of tiles", "logistic regression on the mean of all tiles; a baseline"),
    "rna_logistic": ("RNA itself", "reads RNA of the tested patients: a bound, no model of slides"),
    "clinical_logistic": ("clinical baseline", "reads clinical covariates, no slide"),
}
_READS_RNA = ("momkd", "tdc", "mkd", "g_hanet")
_CONTROLS = {
    "shuffled": "control: taught with RNA of other patients of the class",
    "label": "control: taught with the label in the place of RNA",
    "no_rna": "control: taught without RNA",
}


def models_table(names: Sequence[str]) -> Table:
    """Say what each model is and what it learns from; all answer from the slide alone."""
    return Table(caption="The models by their names on this page", rows=[_row(n) for n in names])


def _row(name: str) -> Row:
    whole, _, control = name.partition("+")
    base, _, preset = whole.partition("-")
    title, does = _WORDS.get(base, (base, "not described"))
    parts = [does]
    if preset:
        parts.append(f"settings: {preset}")
    if control:
        parts.append(_CONTROLS.get(control, f"control: {control}"))
    return {
        "name": name,
        "method": title,
        "what it does": "; ".join(parts),
        "learns from RNA too": base in _READS_RNA and control != "no_rna",
    }
