"""``momkd serve``: a run in the browser; loopback only, unless a token is asked for.

The address is claimed first, so that a port in use is refused before anything is loaded. The server
imports no torch: predictions and heat maps are made in processes of their own.
"""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from momkd.errors import MachineError
from momkd.slides.reader import SlideRules
from momkd.viewer.catalogue import Catalogue
from momkd.viewer.options import ViewerOptions
from momkd.viewer.roots import SlideRoots
from momkd.viewer.run_tables import read_run_facts
from momkd.workflows.console import say

_PACKAGES = "pip install 'momkd[serve]'"


def serve(
    run: Path | str,
    *,
    slides: Sequence[Path | str] = (),
    scores: Sequence[Path | str] = (),
    options: ViewerOptions | None = None,
    rules: SlideRules | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    work: Path | str | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Show a run in the browser until Ctrl-C.

    Parameters
    ----------
    run
        Run folder, or a predictor's: that one predicts new slides only.
    slides
        Folders of slides; nothing beyond them is ever served.
    scores
        Folders that ``momkd predict --attention`` wrote; ``<run>/attention`` is one if it is there.
    options
        Address and limits.
    rules, weights, device
        How slides are opened and embedded, as for ``momkd predict``.
    work
        Folder for uploads, features and scores; by default one that is deleted at the end.
    on_ready
        Given the address, with its token, once.

    Raises
    ------
    MachineError
        E01 a package of the extra ``serve`` is missing; D13 the port is in use.
    DataError
        P13, P14 no run; F28 a folder that is none.
    ConfigError
        G07 an address that this machine does not have.
    """
    try:
        from momkd.viewer.application import make_application
        from momkd.viewer.server import address_of, claim_address, run_server
    except ImportError as error:
        raise MachineError.of("E01", str(error.name), "not installed", _PACKAGES) from None
    from momkd.viewer.jobs import JobQueue
    from momkd.viewer.served import Viewer
    from momkd.viewer.tile_process import TileReaders
    from momkd.workflows.serve_labour import PredictorLabour

    options = options or ViewerOptions()
    rules = rules or SlideRules()
    folder = Path(run)
    with claim_address(options) as listener, _work_folder(work) as place:
        facts = read_run_facts(folder)
        roots = SlideRoots([Path(s) for s in slides])
        stored = [*map(Path, scores), *(p for p in [folder / "attention"] if p.is_dir())]
        hidden = (place, place.resolve(), folder.resolve(), folder, *roots.folders)
        viewer = Viewer(
            catalogue=Catalogue(facts, roots.slides(), stored),
            roots=roots,
            readers=TileReaders(rules),
            jobs=JobQueue(options.most_waiting, hidden),
            labour=PredictorLabour(
                model=folder.resolve(), folder=place, rules=rules, weights=weights, device=device
            ),
            options=options,
            work_folder=place,
            hidden_folders=hidden,
        )
        token = secrets.token_urlsafe(32) if options.token or not options.is_loopback else None
        if token is not None and not options.is_loopback:
            say("others can reach this address: pages and pictures travel unencrypted")
        on_ready(address_of(listener, options, token))
        run_server(make_application(viewer, token), listener)


@contextmanager
def _work_folder(given: Path | str | None) -> Iterator[Path]:
    """Give the folder of what is made; one of our own is deleted, whatever happens."""
    if given is not None:
        place = Path(given)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"cannot be used: {error.strerror or error}"
            raise MachineError.of("X10", str(place), what, "choose another --work") from None
        yield place
        return
    place = Path(tempfile.mkdtemp(prefix="momkd-viewer-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
