"""What each figure of a report means, in words for a clinician."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A figure of merit: its plain meaning, and how it is to be read."""

    name: str
    meaning: str
    reading: str


GLOSSARY = (
    Term(
        name="95 % interval",
        meaning="The values that the data are compatible with, given how few patients were tested.",
        reading="Two overlapping intervals do not show that two models are equal, nor that they "
        "differ: that needs the paired comparison.",
    ),
    Term(
        name="AUROC",
        meaning="Draw one patient of each class: the chance that the positive one gets the higher "
        "probability.",
        reading="0.5 is a coin, 1 is perfect. It says nothing of any threshold, nor whether the "
        "probabilities are right.",
    ),
    Term(
        name="AUROC if trained again",
        meaning="The same figure, with an interval that also allows for models that would come out "
        "otherwise if trained on other patients of this cohort.",
        reading="Wider, and the one to quote for a method rather than for these very models.",
    ),
    Term(
        name="AUPRC",
        meaning="Mean share of true positives among those called positive, over all sensitivities "
        "(average precision).",
        reading="A worthless model reaches the share of positives, which stands beside it.",
    ),
    Term(
        name="sensitivity",
        meaning="Of the positive patients, the share that is called positive.",
        reading="At a threshold that was fixed before any tested patient was seen.",
    ),
    Term(
        name="specificity",
        meaning="Of the negative patients, the share that is called negative.",
        reading="At the same threshold; one rises as the other falls.",
    ),
    Term(
        name="sensitivity at specificity 0.90",
        meaning="The best sensitivity of the cuts that call at most one in ten negatives positive.",
        reading="Read off the curve of the tested patients: it describes the curve, and no "
        "threshold that could have been set beforehand.",
    ),
    Term(
        name="specificity at sensitivity 0.95",
        meaning="Of the negative patients, the share spared when at most one positive in twenty is "
        "missed (pre-screening).",
        reading="Read off the curve, as above.",
    ),
    Term(
        name="accuracy, majority rate",
        meaning="Share of right calls; and the share that is right when everybody is called the "
        "commoner class.",
        reading="An accuracy below the majority rate is worse than not looking at the slide.",
    ),
    Term(
        name="macro F1",
        meaning="Mean over both classes of a balance (F1) of how many are found and how many of "
        "the calls are right.",
        reading="0 to 1, higher is better; it depends on how common the class is.",
    ),
    Term(
        name="Brier score",
        meaning="Mean squared distance of the probability from what was true (1 or 0).",
        reading="Lower is better; giving everybody the share p of positives scores p (1 - p).",
    ),
    Term(
        name="calibration slope",
        meaning="Whether probabilities are spread as they should be.",
        reading="1 is right. Below 1: too extreme, high ones are too high and low ones too low.",
    ),
    Term(
        name="calibration intercept",
        meaning="Whether probabilities are right on average.",
        reading="0 is right. Above 0: the model gives too low, below 0: too high probabilities.",
    ),
    Term(
        name="net benefit",
        meaning="True positives per patient, less false positives weighed by the odds of the "
        "threshold probability: how many needless actions one right action is worth.",
        reading="A model is of use at a threshold only where it lies above acting on all and on "
        "none.",
    ),
    Term(
        name="threshold",
        meaning="The probability from which a patient is called positive.",
        reading="Chosen on the validation side of each fold, on few patients, and never re-fitted "
        "on tested ones.",
    ),
    Term(
        name="fold, seed",
        meaning="In each fold other patients are set aside for testing; a seed is one more repeat "
        "with another split.",
        reading="Repeats show how far training wobbles. They are no further patients.",
    ),
    Term(
        name="Holm p",
        meaning="Chance of a difference at least this large if the two models were equal, made "
        "stricter for the number of comparisons.",
        reading="A large p does not show that two models are equal: read P(equal) and detectable.",
    ),
    Term(
        name="P(equal)",
        meaning="Probability that the true difference is too small to matter.",
        reading="Practically equal from 0.95.",
    ),
    Term(
        name="detectable",
        meaning="The smallest difference that would have come out significant here.",
        reading="Smaller true differences exist unseen.",
    ),
    Term(
        name="bootstrap, DeLong, Wilson, corrected t",
        meaning="Ways to compute an interval: by drawing patients again and again; for an AUROC; "
        "for a share; for folds, whose training patients overlap.",
        reading="Each says how far chance alone may carry the figure.",
    ),
    Term(
        name="tile, embedding",
        meaning="A slide is cut into small squares (tiles); an encoder that was trained elsewhere "
        "turns each into a row of numbers (embedding).",
        reading="All that a model sees of a slide is these numbers.",
    ),
    Term(
        name="training, validation, test",
        meaning="Patients a model learns from; those by whom its epoch, calibration and threshold "
        "are chosen; those it is judged by.",
        reading="In every fold nobody stands on two sides.",
    ),
    Term(
        name="epoch, loss",
        meaning="One pass over all training patients; what training makes small. The validation "
        "loss is the mean of -ln of the probability given to the truth, in nats.",
        reading="Lower is better; losses of two methods cannot be compared.",
    ),
    Term(
        name="chi-square, permutation p, Cramer's V",
        meaning="How far positives differ between sites: a test, the share of shuffled labels that "
        "differ as much, and a strength from 0 to 1.",
        reading="Where sites and labels go together, a model can recognise the site instead.",
    ),
    Term(
        name="slot, share of slots in use, perplexity",
        meaning="MoMKD compares tiles with learnt patterns (slots) of each class: the share of "
        "slots in use, and the number of slots that are used as if evenly.",
        reading="Diagnostics of training, no measure of quality. A perplexity near 1: one slot "
        "serves for all.",
    ),
    Term(
        name="cosine",
        meaning="How alike two directions are: 1 the same, 0 unrelated, -1 opposite.",
        reading="Of slots, it says whether two of them tell the same.",
    ),
    Term(
        name="digest, SHA-256",
        meaning="A fingerprint of a file or table.",
        reading="Equal fingerprints: equal content, to the last letter.",
    ),
)
