"""``momkd reproduce``: the paper's tables and figures over a cohort, from resumable runs."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from momkd.errors import ConfigError, ModelError
from momkd.reporting.paper_table import PaperTable, escape_markdown
from momkd.storage import lock_folder, write_text
from momkd.workflows.console import say
from momkd.workflows.external import open_external
from momkd.workflows.reproduction.arms import External, Plan
from momkd.workflows.reproduction.product import label_of, write_product
from momkd.workflows.reproduction.profiles import choose_profile, lay_profile
from momkd.workflows.reproduction.running import Bench, require_own_runs, unique_arms
from momkd.workflows.reproduction.targets import TARGETS
from momkd.workflows.settings import load_settings
from momkd.workflows.tables import make_table

_EVERYTHING = "all"
_NO_EXTERNAL = "needs a cohort that the models have never seen: --external momkd.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What was made.

    Parameters
    ----------
    folder
        Where it lies; ``index.md`` in it says what is there.
    tables
        Target -> its table as printed.
    files
        Target -> names of its files.
    left_out
        Target -> why it was not made.
    """

    folder: Path
    tables: Mapping[str, PaperTable]
    files: Mapping[str, Sequence[str]]
    left_out: Mapping[str, str]


def reproduce(
    targets: str | Sequence[str],
    config: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    profile: str = "full",
    external: Path | str | None = None,
    slides: Sequence[Path | str] = (),
    seeds: int | None = None,
    folds: int | None = None,
    workers: int | None = None,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
) -> Reproduction:
    """Make tables and figures of the paper again, over a cohort of one's own.

    Every cell comes from the predictions of a cross-validation in ``output/runs/<arm>``. Arms with
    equal settings are one; finished ones are not repeated, and an interrupted one goes on.

    Parameters
    ----------
    targets
        ``table1``, ``table2``, ``table3``, ``table4``, ``figure3``, ``figure4``, ``figures1``,
        several of them, or ``all``.
    config
        One or more YAML files; later ones override earlier ones. One budget for all methods lies
        below them.
    output
        Folder; the same call goes on with an interrupted one.
    profile
        ``full``, or ``quick``: few epochs, one seed, fewer folds and sizes, said on every page.
    external
        momkd.yaml of a cohort that the models have never seen, for ``table2``.
    slides
        Slide files, or folders of them: ``figure4`` shows their tiles closely.
    seeds, folds
        Instead of the profile's and of ``folds.n``.
    workers, set_, max_skip
        As :func:`momkd.workflows.crossval.crossval` has them.

    Raises
    ------
    ConfigError
        G07 an unknown target or profile, or ``table2`` alone without an external cohort; T14 a
        folder that holds arms of other settings.
    ModelError
        P12 an external cohort of other classes, or one that shares slides with the cohort.
    TooManyDroppedError
        S20 more slides left out than allowed; everything is written.
    MomkdError
        As :func:`momkd.workflows.crossval.crossval`.
    """
    wanted, left_out = _choose(targets, has_external=external is not None)
    chosen = choose_profile(profile)
    configs = [config] if isinstance(config, str | Path) else list(config)
    overrides = (*set_, *(() if folds is None else (f"folds.n={folds}",)))
    n_seeds = chosen.seeds if seeds is None else seeds
    if n_seeds < 1:
        raise ConfigError.of("G07", "--seeds", f"got {n_seeds}, wanted 1 or more")
    load_settings([Path(c) for c in configs], overrides)  # refused before a folder is made
    folder = Path(output)
    with lock_folder(folder):
        files = lay_profile(folder, chosen, [Path(c) for c in configs])
        plan = Plan(
            folder=folder,
            files=files,
            set_=overrides,
            settings=load_settings(files, overrides),
            profile=chosen,
            seeds=n_seeds,
            workers=workers,
            max_skip=max_skip,
            slides=tuple(Path(s) for s in slides),
        )
        arms = unique_arms([arm for name in wanted for arm in TARGETS[name].arms(plan)])
        require_own_runs(plan, arms)
        if external is not None and any(TARGETS[name].needs_external for name in wanted):
            plan = _with_external(plan, Path(external))
        say(plan.budget)
        for line in (
            chosen.warning,
            *(f"{name} left out: {why}" for name, why in left_out.items()),
        ):
            if line:
                say(line)
        bench = Bench(plan, arms)
        tables: dict[str, PaperTable] = {}
        written: dict[str, list[str]] = {}
        for name in wanted:
            bench.run(TARGETS[name].arms(plan))
            product = TARGETS[name].make(plan)
            written[name] = write_product(plan, product)
            tables[name] = product.table
            say(f"{name}: {', '.join(written[name])}")
            _write_index(plan, left_out)
    if bench.too_many_dropped is not None:
        raise bench.too_many_dropped
    return Reproduction(folder=folder, tables=tables, files=written, left_out=left_out)


def tell_reproduction(made: Reproduction) -> list[str]:
    """Give what a person reads on the terminal: every table, and where it lies."""
    lines = []
    for name, table in made.tables.items():
        rows = [
            {head: row.get(key, "") for key, head in table.headings.items()} for row in table.rows
        ]
        lines += [f"{table.number}. {table.title}", table.caption]
        lines += [table.warning] if table.warning else []
        lines += [make_table(rows), f"written: {made.folder / f'{name}.md'} and beside it", ""]
    lines += [f"{name} left out: {why}" for name, why in made.left_out.items()]
    return [*lines, f"index: {made.folder / 'index.md'}"]


def _choose(
    targets: str | Sequence[str], *, has_external: bool
) -> tuple[list[str], dict[str, str]]:
    """Give the targets to be made, in the table's order, and why others cannot be."""
    asked = [targets] if isinstance(targets, str) else list(targets)
    if not asked:
        raise ConfigError.of("G07", "TARGET", "no target named", f"known: {_known()}")
    for name in asked:
        if name not in (*TARGETS, _EVERYTHING):
            near = difflib.get_close_matches(name, [*TARGETS, _EVERYTHING], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            what = f"unknown target {name!r}"
            raise ConfigError.of("G07", "TARGET", what, f"{hint}known: {_known()}")
    wanted = [name for name in TARGETS if name in asked or _EVERYTHING in asked]
    lacking = [name for name in wanted if TARGETS[name].needs_external and not has_external]
    for name in lacking:
        if name in asked:
            raise ConfigError.of("G07", "--external", f"{name} {_NO_EXTERNAL}")
    return [name for name in wanted if name not in lacking], dict.fromkeys(lacking, _NO_EXTERNAL)


def _known() -> str:
    return ", ".join([*TARGETS, _EVERYTHING])


def _with_external(plan: Plan, config: Path) -> Plan:
    """Open the external cohort before anything is trained for it."""
    audited = open_external(config)
    ours, theirs = plan.settings.data.target.class_names, audited.audit.cohort.class_names
    if tuple(ours) != tuple(theirs):
        what = f"has classes {theirs}, the cohort {ours}"
        raise ModelError.of("P12", "external cohort", what, "use the cohort's target values")
    return replace(plan, external=External(name=config.stem, audited=audited))


def _write_index(plan: Plan, left_out: Mapping[str, str]) -> None:
    """Write ``index.md``: what the folder holds, from this call and from earlier ones."""
    lines = [f"# The paper's results, made again: {escape_markdown(label_of(plan))}", ""]
    if plan.profile.warning:
        lines += [f"> **{escape_markdown(f'{plan.budget} {plan.profile.warning}')}**", ""]
    lines += ["| target | shows | state |", "| --- | --- | --- |"]
    for name, target in TARGETS.items():
        lines.append(f"| {name} | {target.title} | {_state(plan.folder, name, left_out)} |")
    lines += [
        "",
        "Each table's CSV and JSON name the run folder and the predictions behind every row. Runs "
        "lie in `runs/`, a folder an arm, with a report each.",
    ]
    write_text(plan.folder / "index.md", "\n".join(lines) + "\n")


def _state(folder: Path, name: str, left_out: Mapping[str, str]) -> str:
    path = folder / f"{name}.json"
    if path.exists():
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return f"[{name}.md]({name}.md): {escape_markdown(content['budget'])}"
    return f"left out: {left_out[name]}" if name in left_out else "not asked for"
