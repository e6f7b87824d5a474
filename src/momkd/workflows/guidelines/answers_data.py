"""What a run says of its patients, its label and its inputs."""

from momkd.serving.card import Card, describe_tile
from momkd.workflows.guidelines.answers import Answer, Answerer, Found, Gap, listed
from momkd.workflows.guidelines.facts import RunFacts
from momkd.workflows.report_flow import KINDS, SIDES, say_span

_MOST_CAUSES = 12
_NO_CARD = "a predictor whose card can be read"


def _card(run: RunFacts) -> Card | None:
    return next(iter(run.cards.values()), None)


def task(run: RunFacts) -> Found:
    """Say what is predicted, from what."""
    negative, positive = run.manifest["class_names"]
    text = (
        f"Predicted is {run.manifest['task']}: {positive} against {negative}, from tile embeddings "
        "of whole-slide images; RNA, where there is any, teaches in training and is not read to "
        "predict"
    )
    return Answer(text=text, where="run.json")


def sources(run: RunFacts) -> Found:
    """Say what was read."""
    notes = [str(n) for n in run.manifest["notes"]]
    if not notes:
        return Gap(lacks="notes on the files that were read")
    return Answer(text="; ".join(notes), where="run.json, notes")


def centres(run: RunFacts) -> Found:
    """Say how many sites, and how large."""
    if run.cohort is None:
        return Gap(lacks="cohort.csv")
    known = run.cohort.loc[run.cohort["site"] != ""]
    sizes = known.groupby("site")["case_id"].nunique()
    if sizes.empty:
        return Gap(lacks="sites: no column of sites was named or derived")
    text = (
        f"{known['case_id'].nunique()} used patients come from {len(sizes)} sites, "
        f"{int(sizes.min())} to {int(sizes.max())} patients each"
    )
    return Answer(text=text, where="cohort.csv, report: Sites and labels")


def eligibility(run: RunFacts) -> Found:
    """Say whom the configuration lets in."""
    target = run.setting("data", "target")
    if not isinstance(target, dict):
        return Gap(lacks="a configured label")
    parts = [
        f"a case is used with a known label ({target.get('column')}) and a slide or RNA",
        f"values excluded: {listed(target.get('exclude') or None)}",
        f"kinds of slides: {listed(run.setting('data', 'slide_kinds'))}",
    ]
    if run.setting("data", "rna"):
        parts.append(f"sample types of RNA: {listed(run.setting('data', 'sample_types'))}")
    if run.setting("data", "paired_only"):
        parts.append("cases without slide and RNA were left out")
    return Answer(text="; ".join(parts), where="config.yaml, data")


def causes(run: RunFacts) -> Found:
    """Say why things were left out."""
    shown = [
        f"{one.n} {KINDS.get(one.kind, one.kind)}: {one.reason} [{one.code}]"
        for one in run.left_out[:_MOST_CAUSES]
    ]
    rest = len(run.left_out) - len(shown)
    text = "; ".join(shown) or "nothing was left out"
    text += f"; {rest} further causes" if rest > 0 else ""
    return Answer(text=f"Left out: {text}", where="dropped.csv")


def outcome(run: RunFacts) -> Found:
    """Say how the label is read from its column."""
    target = run.setting("data", "target")
    if not isinstance(target, dict):
        return Gap(lacks="a configured label")
    notes = [str(n) for n in run.manifest.get("target_notes", ())]
    text = (
        f"The label is column {target.get('column')}: positive is "
        f"{listed(target.get('positive'))}, negative is {listed(target.get('negative'))}; other "
        "values are unknown, and their cases are left out"
    )
    return Answer(text="; ".join([text, *notes]), where="config.yaml, data.target")


def same_label(run: RunFacts) -> Found:
    """Say that test cases have the label of the same column."""
    if not run.has_tests:
        return Gap(lacks="a test side")
    text = "Test cases carry the label of the same column as all others"
    return Answer(text=text, where="config.yaml, data.target")


def predictors(run: RunFacts) -> Found:
    """Say what a model reads."""
    card = _card(run)
    if card is None:
        return Gap(lacks=_NO_CARD)
    digest = f", weights SHA-256 {card.encoder_sha256[:12]}" if card.encoder_sha256 else ""
    text = (
        f"All tiles of a feature file enter, as embeddings of width {card.dims.dim_in} by the "
        f"encoder {card.encoder or 'that the files do not name'}{digest}; tiles of "
        f"{describe_tile(card)}"
    )
    return Answer(text=text, where="predictor/config.json")


def panel(run: RunFacts) -> Found:
    """Say how genes are chosen, and on whom."""
    if not run.n_panels:
        return Gap(lacks="a gene panel: no finished training here reads RNA")
    text = (
        f"RNA that teaches: up to {run.setting('panel', 'n_genes')} genes by "
        f"{run.setting('panel', 'selector')}, winsorised at {run.setting('panel', 'winsor')} and "
        f"scaled, fitted in each fold on its training cases only ({run.n_panels} panels recorded)"
    )
    if run.setting("data", "restrict_genes_to"):
        text += "; genes were restricted beforehand to those of another table"
    return Answer(text=text, where="panel.json of each training; config.yaml, panel")


def preparation(run: RunFacts) -> Found:
    """Say how inputs are brought into form."""
    card = _card(run)
    tiles = f"tiles of {describe_tile(card)}; " if card is not None else ""
    text = f"{tiles}embeddings {run.manifest.get('embeddings', 'as stored')}"
    if run.setting("data", "rna"):
        text += (
            f"; RNA scale: {run.setting('data', 'rna_scale')}, brought to log2 where it is linear, "
            f"several aliquots of a case: {run.setting('data', 'aliquots')}, missing values: "
            f"{run.setting('data', 'impute')}"
        )
    return Answer(text=text, where="run.json; config.yaml, data")


def checks(run: RunFacts) -> Found:
    """Say how files were examined."""
    text = (
        "Each feature file was examined before use (layout, sizes, values that are not finite, "
        "rows of zeros) in a process of its own and recorded by SHA-256; a file that changed later "
        "is refused. The same for all cases, whatever their group"
    )
    return Answer(text=text, where="features.csv, dropped.csv")


def acquisition(run: RunFacts) -> Found:
    """Say at what resolution slides were read."""
    card = _card(run)
    if card is None:
        return Gap(lacks=_NO_CARD)
    return Answer(
        text=f"Tiles of {describe_tile(card)}, as the feature files state; scanner and staining "
        "are not recorded",
        where="predictor/config.json",
    )


def no_judgement(run: RunFacts) -> Found:
    """Say that nobody judges an embedding."""
    return Answer(
        text="Embeddings are computed; no judgement enters them here", where="config.yaml"
    )


def made_blind(run: RunFacts) -> Found:
    """Say what knows the label."""
    text = (
        "momkd extract reads no labels; whether feature files that were made elsewhere knew them "
        "cannot be seen"
    )
    return Answer(text=text, where="docs/slides.md")


def missing(run: RunFacts) -> Found:
    """Say what is done where something is missing."""
    number = run.number
    with_rna, slides = number.get("cases with RNA only", 0), number.get("cases with slide only", 0)
    text = (
        "A case without a known label is left out, with its reason; "
        f"{slides} cases without RNA train and are tested on their slides alone; {with_rna} cases "
        "without a slide teach by RNA only and are never tested"
    )
    if run.setting("data", "rna"):
        how = run.setting("data", "impute")
        text += "; missing RNA values: " + (
            "medians of the training cases of a fold" if how == "train_median" else "refused"
        )
    return Answer(text=text, where="run.json, counts; dropped.csv")


def subsets(run: RunFacts) -> Found:
    """Say whether a part of the data was chosen."""
    chosen = [
        name
        for name, is_set in (
            ("cases with slide and RNA only", run.setting("data", "paired_only")),
            ("genes that another table has", run.setting("data", "restrict_genes_to")),
            ("a part of the cases of a split file", run.setting("folds", "allow_subset")),
        )
        if is_set
    ]
    text = (
        f"Restricted to: {'; '.join(chosen)}"
        if chosen
        else "None: the tables were used as they are"
    )
    return Answer(text=text, where="config.yaml, data and folds")


def identity(run: RunFacts) -> Found:
    """Say what of a patient is written."""
    text = (
        "Cases stand in the run under the ids of the tables; the report names none of them unless "
        "asked, and label and macro images of slides are not opened"
    )
    return Answer(text=text, where="report.html")


def study_size(run: RunFacts) -> Found:
    """Say how many there are."""
    number, (negative, positive) = run.number, run.manifest["class_names"]
    if "cases used" not in number:
        return Gap(lacks="counts of cases")
    text = (
        f"{number['cases used']} patients: {number.get(f'cases {positive}', 0)} {positive}, "
        f"{number.get(f'cases {negative}', 0)} {negative}; {number.get('slides used', 0)} slides; "
        "no size was computed beforehand by this software"
    )
    return Answer(text=text, where="run.json, counts; cohort.csv")


def flow(run: RunFacts) -> Found:
    """Say that listed = used + left out."""
    number = run.number
    if not number:
        return Gap(lacks="counts of what was listed")
    parts = []
    for kind, name in KINDS.items():
        told = [f"{number.get(f'{kind}s {k}', 0)} {k}" for k in ("listed", "used", "left out")]
        parts.append(f"{name}: {', '.join(told)}")
    return Answer(text="; ".join(parts), where="flow.svg, flow.png; report: Patients")


def classes(run: RunFacts) -> Found:
    """Count cases and slides by class."""
    if run.cohort is None:
        return Gap(lacks="cohort.csv")
    parts = []
    for (_, name), part in run.cohort.groupby(["label", "class_name"]):
        n_rna = part.loc[part["rna_id"] != "", "case_id"].nunique()
        n_slides = int((part["slide_id"] != "").sum())
        parts.append(
            f"{name}: {part['case_id'].nunique()} patients, {n_slides} slides, {n_rna} with RNA"
        )
    return Answer(text="; ".join(parts), where="report: Patients")


def sides(run: RunFacts) -> Found:
    """Count cases and slides by side of a fold and by class."""
    if not run.sides:
        return Gap(lacks="folds.csv beside cohort.csv")
    parts = [
        f"{SIDES[one.side]}, {one.class_name}: {say_span(one.cases)} patients, "
        f"{say_span(one.slides)} slides, {say_span(one.rna)} with RNA"
        for one in run.sides
    ]
    return Answer(
        text="Of a fold: " + "; ".join(parts),
        where="flow.svg; report: Participants by side and class; folds.csv",
    )


def circular(run: RunFacts) -> Found:
    """Say whether the label is known to come from the inputs."""
    told = [str(n) for n in run.manifest["notes"] if "define the label" in n]
    told += map(str, run.manifest.get("target_notes", ()))
    text = "; ".join(told) or "no note of a label that is computed from its inputs"
    return Answer(text=text, where="run.json, notes and target_notes")


ANSWERS: dict[str, Answerer] = {
    one.__name__: one
    for one in (
        *(task, sources, centres, eligibility, causes, outcome, same_label, predictors, panel),
        *(preparation, checks, acquisition, no_judgement, made_blind, missing, subsets, identity),
        *(study_size, flow, classes, sides, circular),
    )
}
