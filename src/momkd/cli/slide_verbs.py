"""Verbs that start from slides, or from what was stored of them."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import CoordsDir, MaxSkip, Mpp, MppFromPower, app
from momkd.slides.encoders.table import DEFAULT_ENCODER, ENCODERS


class Stain(Enum):
    """What a slide must look like."""

    he = "he"
    any = "any"


@app.command()
def extract(
    slides: Annotated[list[Path], typer.Argument(help="Slides, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of feature files.")],
    encoder: Annotated[str, typer.Option(help=f"One of {', '.join(ENCODERS)}.")] = DEFAULT_ENCODER,
    weights: Annotated[
        Path | None, typer.Option(help="File of its weights; else its package, or the Hub.")
    ] = None,
    tile_px: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile in pixels of its view: 896 (default), 512, 256 or other."
        ),
    ] = None,
    tile_um: Annotated[float | None, typer.Option(help="The same in um, instead.")] = None,
    view_mpp: Annotated[
        float | None, typer.Option(help="um per pixel of the view; 0.5 (default) is 20x.")
    ] = None,
    min_tissue: Annotated[float, typer.Option(help="Least share of tissue in a tile.")] = 0.1,
    tissue: Annotated[
        Path | None, typer.Option(help="Mask: GeoJSON, picture, or a folder of them.")
    ] = None,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    scene: Annotated[
        int | None, typer.Option(help="Of a file with several scenes or planes, from 0.")
    ] = None,
    stain: Annotated[
        Stain, typer.Option(help="any lets pass what does not look like H&E.")
    ] = Stain.he,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    bf16: Annotated[bool, typer.Option("--bf16", help="Mixed precision.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles a step.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Slides read side by side.")] = 1,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Digest every slide, unchanged in size and time or not."),
    ] = False,
    max_skip: MaxSkip = 0.0,
) -> None:
    """Cut slides into tiles on tissue and embed them: one feature file a slide.

    What is done is skipped, by digest; after an interruption the same command goes on.
    """
    from momkd.slides.reader import SlideRules
    from momkd.slides.tiling import TilingOptions
    from momkd.workflows.extract import extract as run

    result = run(
        slides,
        output,
        encoder=encoder,
        weights=weights,
        tiling=TilingOptions.from_sides(tile_px, tile_um, view_mpp, min_tissue),
        rules=SlideRules(mpp=mpp, mpp_from_power=mpp_from_power, scene=scene, stain=stain.value),
        tissue=tissue,
        device=device,
        precision="bfloat16" if bf16 else "float32",
        batch_size=batch_size,
        workers=workers,
        verify=verify,
        max_skip=max_skip,
    )
    typer.echo(f"wrote {output}: {len(result.files)} slides, {result.n_made} made now")


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Slides, feature files, folders of these.")],
    model: Annotated[Path, typer.Option("--model", help="Run or predictor folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")] = Path(
        "predicted/predictions.csv"
    ),
    only: Annotated[str | None, typer.Option(help="One model of the run.")] = None,
    cases: Annotated[Path | None, typer.Option(help="CSV: slide_id, case_id.")] = None,
    attention: Annotated[Path | None, typer.Option(help="Folder for attention scores.")] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Class evidence beside stored attention.")
    ] = False,
    feature_key: Annotated[str | None, typer.Option(help="Dataset of the embeddings.")] = None,
    drop_nonfinite: Annotated[
        bool, typer.Option("--drop-nonfinite", help="Leave out rows with NaN or infinite values.")
    ] = False,
    coords_dir: CoordsDir = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder where features of slides are kept.")
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(help="Folder for PNG and GeoJSON; of slides always written.")
    ] = None,
    no_heatmaps: Annotated[bool, typer.Option("--no-heatmaps", help="Draw none.")] = False,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    weights: Annotated[Path | None, typer.Option(help="File of the encoder's weights.")] = None,
    device: Annotated[str, typer.Option(help="Where slides are embedded.")] = "cpu",
    max_skip: MaxSkip = 0.05,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Predict from slides alone: no RNA, no labels.

    Of a slide: its probability with the span over fold models, and a heatmap, as PNG and GeoJSON.
    """
    from momkd.slides.reader import SlideRules
    from momkd.workflows.predict import predict as run
    from momkd.workflows.predict import tell_predictions

    table = run(
        model,
        inputs,
        output,
        only=only,
        cases=cases,
        attention=attention,
        evidence=evidence,
        feature_key=feature_key,
        drop_nonfinite=drop_nonfinite,
        coords=coords_dir,
        slides=SlideRules(mpp=mpp, mpp_from_power=mpp_from_power),
        weights=weights,
        device=device,
        features=features,
        heatmaps=heatmaps,
        draw=not no_heatmaps,
        max_skip=max_skip,
        workers=workers,
    )
    typer.echo("\n".join(tell_predictions(table)))
    n_slides, n_models = table["slide_id"].nunique(), table["model"].nunique()
    typer.echo(f"wrote {output}: {n_slides} slides, {n_models} model(s)")


@app.command()
def heatmap(
    inputs: Annotated[list[Path], typer.Argument(help="What predict --attention stored.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of pictures.")],
    thumbnails: Annotated[Path | None, typer.Option(help="Folder of <slide>.jpg.")] = None,
    slots: Annotated[
        bool, typer.Option("--slots", help="Similarity to each slot too, where it was stored.")
    ] = False,
) -> None:
    """Draw stored attention and evidence over slides: PNG, SVG, QuPath; nothing is recomputed."""
    from momkd.workflows.heatmap import heatmap as run

    pictures = run(inputs, output, thumbnails=thumbnails, slots=slots)
    typer.echo(f"wrote {output}: {len(pictures)} slides")


@app.command()
def memory(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_PREDICTOR", help="Run, training in it, or predictor."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of page and tables.")],
    features: Annotated[
        list[Path] | None,
        typer.Option(help="Feature files or folders; default: what the run tested on."),
    ] = None,
    slides: Annotated[
        list[Path] | None, typer.Option(help="Slides whose pixels are shown, or folders.")
    ] = None,
    training: Annotated[
        str | None, typer.Option(help="One of the run, momkd/seed-0/fold-2; default the first.")
    ] = None,
    top: Annotated[int, typer.Option(help="Tiles shown of each slot.")] = 6,
    no_genes: Annotated[bool, typer.Option("--no-genes", help="Leave RNA alone.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Name slides on the page, instead of numbers.")
    ] = False,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    weights: Annotated[Path | None, typer.Option(help="File of the encoder's weights.")] = None,
    device: Annotated[str, typer.Option(help="Where slides are embedded.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Show what the slots of a trained memory see: tiles, tissue, genes; page and tables."""
    from momkd.slides.reader import SlideRules
    from momkd.workflows.memory import memory as run

    made = run(
        source,
        output,
        features=features or (),
        slides=slides or (),
        training=training,
        n_top=top,
        genes=not no_genes,
        names=names,
        rules=SlideRules(mpp=mpp, mpp_from_power=mpp_from_power),
        weights=weights,
        device=device,
        workers=workers,
    )
    typer.echo("\n".join(made.lines()))
