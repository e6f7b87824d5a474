"""The verb that shows a run in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import Mpp, MppFromPower, app


@app.command()
def serve(
    run: Annotated[Path, typer.Argument(help="Run or predictor folder.")],
    slides: Annotated[
        list[Path] | None, typer.Option(help="Folder of slides; repeat for more. Nothing else.")
    ] = None,
    scores: Annotated[
        list[Path] | None, typer.Option(help="Folder of predict --attention; repeat for more.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address; any but loopback asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for one on loopback too (shared machines).")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further name it may be asked for by.")
    ] = None,
    max_upload: Annotated[float, typer.Option(min=0.001, max=1024, help="GiB.")] = 4.0,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    weights: Annotated[Path | None, typer.Option(help="File of the encoder's weights.")] = None,
    device: Annotated[str, typer.Option(help="Where slides are embedded.")] = "cpu",
    work: Annotated[
        Path | None, typer.Option(help="Folder for uploads and features; default: none is kept.")
    ] = None,
) -> None:
    """Show cases, slides and heat maps in the browser, and predict new slides there.

    Only this machine can reach it, unless --host says otherwise. Ctrl-C ends it.
    """
    from momkd.slides.reader import SlideRules
    from momkd.viewer.options import ViewerOptions
    from momkd.workflows.serve import serve as run_viewer

    run_viewer(
        run,
        slides=slides or (),
        scores=scores or (),
        options=ViewerOptions(
            host=host,
            port=port,
            token=token,
            allow_hosts=tuple(allow_host or ()),
            max_upload_gib=max_upload,
        ),
        rules=SlideRules(mpp=mpp, mpp_from_power=mpp_from_power),
        weights=weights,
        device=device,
        work=work,
        on_ready=lambda address: print(f"serving {run} at {address} (Ctrl-C ends it)", flush=True),
    )
