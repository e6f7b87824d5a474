"""The page of a run: everything the folder knows, brought into the form of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from momkd.reporting.glossary import GLOSSARY
from momkd.reporting.page import Facts, Listing, Picture, Report, Section, Table, Words
from momkd.reporting.report import write_report
from momkd.workflows.checklists import guidelines_section
from momkd.workflows.frozen_protocol import NOT_FROZEN, open_protocol
from momkd.workflows.report_curves import curves_section
from momkd.workflows.report_groups import sites_section, subgroups_section
from momkd.workflows.report_limits import tell_limits
from momkd.workflows.report_models import models_table
from momkd.workflows.report_patients import folds_section, patients_section, sites_table
from momkd.workflows.report_scores import (
    cases_table,
    comparison_section,
    scores_section,
)
from momkd.workflows.report_search import search_section
from momkd.workflows.report_sources import PageSources
from momkd.workflows.report_training import (
    Trainings,
    memory_section,
    read_trainings,
    training_section,
)
from momkd.workflows.settings import without_folders


def write_run_report(
    target: Path,
    manifest: Mapping[str, Any],
    metrics: Mapping[str, Any],
    cases: pd.DataFrame,
    *,
    dropped: Path,
    configuration: Path,
    run: Path | None = None,
    extra_tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    attention: Figure | None = None,
    comparison: Mapping[str, Any] | None = None,
    examples: Section | None = None,
) -> Path:
    """Write ``report.html`` of a run, an external cohort or a demo into a folder.

    Parameters
    ----------
    target
        Folder of the page.
    run
        The run folder, where its trainings are to be shown too.
    attention
        A map of attention, where there is one.

    Others are as in :class:`PageSources`.

    Returns
    -------
    Path
        The page.
    """
    pictures = []
    if attention is not None:
        caption = "Attention of the fold models on a slide none of them has seen."
        alt = "attention map of one slide"
        pictures.append(Picture(figure=attention, caption=caption, alt=alt))
    sources = PageSources(
        manifest=manifest,
        metrics=metrics,
        cases=cases,
        dropped=dropped,
        configuration=configuration,
        cohort=dropped.with_name("cohort.csv"),
        trainings=None if run is None else read_trainings(run, manifest.get("jobs", ())),
        comparison=comparison,
        extra_tables=extra_tables or {},
        examples=examples,
        pictures=pictures,
        protocol=None if run is None else open_protocol(run, manifest),
    )
    write_page(target / "report.html", sources)
    return target / "report.html"


def write_page(path: Path, of: PageSources) -> None:
    """Write the page of a run to a file."""
    content, cohort, manifest = of.read_configuration(), of.read_cohort(), of.manifest
    sides = of.count_sides(cohort)
    unfinished = [] if of.trainings is None else tell_unfinished(of.trainings)
    report = Report(
        title=f"{manifest['task']} from histology",
        alarms=[*of.alarms, *unfinished],
        sections=[
            Section(
                title="What was asked",
                parts=[Facts(pairs=_asked(of)), models_table(manifest["models"])],
            ),
            *_scored_sections(of, cohort),
            *[
                Section(title=t, parts=[Table(caption=t, rows=r)])
                for t, r in of.extra_tables.items()
            ],
            *_given(of.examples),
            *([Section(title="Pictures", parts=of.pictures)] if of.pictures else []),
            patients_section(manifest, of.dropped, cohort, sides),
            *_given(
                folds_section(manifest, of.count_panels(), content, sides),
                sites_table(manifest),
            ),
            *_trained_sections(of),
            *_given(of.atlas),
            *([] if of.trainings is None else [guidelines_section(of)]),
            Section(
                title="Limits",
                parts=[Words(lines=tell_limits(manifest, of.metrics), is_list=True)],
            ),
            _glossary(),
            Section(
                title="Configuration and digests",
                parts=[
                    Facts(pairs=_provenance(manifest)),
                    Listing(name="config.yaml", text=_as_yaml(without_folders(content))),
                ],
            ),
        ],
        foot=f"Made by momkd {manifest['machine'].get('momkd', '')}; run started "
        f"{manifest['started']}. One file: it loads nothing and sends nothing.",
    )
    write_report(path, report)


def tell_unfinished(trainings: Trainings) -> list[str]:
    """Say, in one sentence, that trainings are missing; nothing where none is."""
    if not trainings.open_jobs:
        return []
    by_model = ", ".join(f"{name} {n}" for name, n in trainings.n_open().items())
    return [
        f"Unfinished: {len(trainings.fits)} of {trainings.n_jobs} trainings are done (to do: "
        f"{by_model}). No figure is shown of a model that was not tested on every fold."
    ]


def _scored_sections(of: PageSources, cohort: pd.DataFrame | None) -> list[Section]:
    if of.metrics is None or of.cases is None:
        return []
    names = of.manifest["class_names"]
    scored = of.metrics["models"]
    models = [m for m in dict.fromkeys((*of.manifest["models"], *scored)) if m in scored]
    metrics = {**of.metrics, "models": {m: scored[m] for m in models}}
    method = (of.comparison or {}).get("method")
    first = next(m for m in (method, *models) if m in models)
    parts: list[Section | None] = [
        scores_section(metrics, names),
        comparison_section(of.comparison, len(models)),
        curves_section(metrics, of.cases, first),
    ]
    if cohort is not None:
        site_of = dict(zip(cohort["case_id"], cohort["site"], strict=True))
        parts.append(sites_section(of.cases, site_of))
        parts.append(subgroups_section(of.cases, cohort, of.dropped.with_name("covariates.csv")))
    if of.n_cases:
        table = cases_table(of.cases, names, first, of.n_cases)
        parts.append(Section(title="Cases predicted worst", parts=[table]))
    return _given(*parts)


def _trained_sections(of: PageSources) -> list[Section]:
    if of.trainings is None:
        return []
    return _given(
        search_section(of.manifest, of.metrics),
        training_section(of.trainings, of.manifest["models"]),
        memory_section(of.trainings, of.manifest["class_names"]),
    )


def _given(*sections: Section | None) -> list[Section]:
    return [section for section in sections if section is not None]


def _glossary() -> Section:
    rows = [
        {"figure": t.name, "what it means": t.meaning, "how to read it": t.reading}
        for t in GLOSSARY
    ]
    caption = "What the figures mean, in plain words"
    return Section(title="Glossary", parts=[Table(caption=caption, rows=rows)])


def _asked(of: PageSources) -> list[tuple[str, str]]:
    manifest = of.manifest
    negative, positive = manifest["class_names"]
    proof = manifest.get("proof") or {}
    return [
        ("label", f"{manifest['task']}: {positive} against {negative}"),
        ("counted as positive", positive),
        ("input at prediction", "tile embeddings of slides; no RNA"),
        ("protocol", proof.get("protocol", "none")),
        *_frozen(of),
        ("date", manifest["started"]),
        *([("to repeat it", _command(manifest))] if manifest.get("jobs") else []),
        *[("note on data", note) for note in manifest["notes"]],
        *[("note on label", note) for note in manifest.get("target_notes", ())],
        *[("note on training", note) for note in manifest.get("training_notes", ())],
    ]


def _frozen(of: PageSources) -> list[tuple[str, str]]:
    """Tell of the protocol of a run; nothing of a page that is of no cross-validation."""
    if of.protocol is not None:
        return of.protocol.facts()
    is_run = of.trainings is not None and of.trainings.n_jobs > 0
    return [("protocol file", NOT_FROZEN)] if is_run else []


def _command(manifest: Mapping[str, Any]) -> str:
    """Give the command that makes the same run from the configuration that it keeps."""
    seeds = len({row["seed"] for row in manifest["folds"]})
    repeats = f" --seeds {seeds}" if seeds > 1 else ""
    names = ",".join(name.replace("-", ":", 1) for name in manifest["models"])
    return f"momkd crossval -c RUN/config.yaml --model {names}{repeats} -o ANOTHER"


def _as_yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _provenance(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = ", ".join(f"{k} {v}" for k, v in sorted(manifest["machine"].items()))
    found = [
        ("started", manifest["started"]),
        ("cohort digest", manifest["cohort"]),
        ("settings digest", manifest["settings"]),
        ("folds digest", (manifest.get("proof") or {}).get("digest")),
        ("protocol digest", (manifest.get("protocol") or {}).get("sha256")),
        ("embeddings", manifest.get("embeddings")),
        ("software", machine),
    ]
    return [(name, value) for name, value in found if value]
