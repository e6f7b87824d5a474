"""``momkd export RUN --to ...``: a trained model in the form that others read."""

from dataclasses import dataclass
from pathlib import Path

from momkd.errors import ConfigError
from momkd.serving.bundle import pack_bundle
from momkd.serving.weights import pack_weights
from momkd.storage import canonical_json, digest_bytes, write_folder
from momkd.workflows.export_predictions import export_predictions
from momkd.workflows.export_source import ExportSource, load_source, require_free
from momkd.workflows.hub_card import write_card

TABLES = {"stamp-csv": "stamp", "clam-csv": "clam"}
FORMS = ("hub", "onnx", *TABLES)
_HUB_FILES = frozenset({"config.json", "model.safetensors", "README.md"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and what is worth saying of it."""

    path: Path
    what: str
    notes: tuple[str, ...] = ()


def export_model(
    source: Path | str,
    output: Path | str,
    *,
    to: str,
    only: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a trained model, or its predictions, for others.

    Parameters
    ----------
    source
        A run, whose fold models of one kind go out together; what ``momkd train`` or an earlier
        export wrote; or a predictor. Tables need a run.
    output
        ``hub``, ``stamp-csv``, ``clam-csv``: a folder. ``onnx``: a file ``*.onnx``.
    to
        One of :data:`FORMS`.
    only
        The model, where a run has several. Tables without it hold all models of the run.
    force
        Replace what an earlier export wrote.

    Raises
    ------
    ConfigError
        G16 no such form, G08 the output exists, G18 a file that is not called ``*.onnx``.
    DataError
        P13, P14 as :func:`~momkd.workflows.export_source.load_source`.
    ModelError
        P10, P15 and C codes as there; C14 a model that no ONNX graph can hold.
    IntegrityError
        C15 a graph that does not answer as the model does; C13 changed weights.
    MachineError
        E01 the extra ``onnx`` is not installed; X10 the output cannot be written.
    """
    path, place = Path(source), Path(output)
    if to not in FORMS:
        what = f"got {to!r}, wanted one of {', '.join(FORMS)}"
        raise ConfigError.of("G16", "--to", what, "see docs/export.md")
    if to in TABLES:
        report = export_predictions(path, place, convention=TABLES[to], only=only, force=force)
        return Exported(path=place, what=f"{len(report.files)} files", notes=report.notes)
    if to == "onnx":
        # brings in torch's exporter, which the other forms need not wait for
        from momkd.workflows.export_onnx import write_onnx

        if place.suffix != ".onnx":
            what = f"got {place.name!r}, wanted a file called *.onnx"
            raise ConfigError.of("G18", "-o", what, f"-o {place.with_suffix('.onnx')}")
        require_free(place, force=force)
        told = write_onnx(load_source(path, only), place)
        return Exported(path=place, what=told)
    require_free(place, force=force, ours=_HUB_FILES)
    return _write_hub(load_source(path, only), place)


def _write_hub(source: ExportSource, folder: Path) -> Exported:
    """Write the Hub's layout: one member as ``train`` writes it, several as a bundle."""
    models = [member.model for member in source.ensemble.members]
    cards = [member.card for member in source.ensemble.members]
    if len(cards) == 1:
        weights = pack_weights(models[0])
        card = cards[0].model_copy(update={"weights_sha256": digest_bytes(weights)})
        config = canonical_json(card.model_dump(mode="json")).encode()
    else:
        bundle, weights = pack_bundle(models, cards)
        config = canonical_json(bundle.model_dump(mode="json")).encode()
    files = {"config.json": config, "model.safetensors": weights}
    readme = write_card(source, {name: digest_bytes(content) for name, content in files.items()})
    write_folder(folder, files | {"README.md": readme.encode()})
    return Exported(path=folder, what=f"{len(cards)} member(s), {len(weights) / 1e6:.1f} MB")
