"""What an atlas says beside its numbers, in plain words."""

ABOUT = (
    "The model compares each tile of a slide with learnt patterns, called slots, of either class. "
    "How much nearer a tile is to the nearest slot of the positive class than to the nearest of "
    "the negative one is the tile's evidence; tiles are weighed by it, and the slide is "
    "classified from what they show together. This page shows what the slots are like and where "
    "they are found.",
    "Slots are directions in a space that the model made for itself. They have no names, and a "
    "slot of the positive class is not a sign of disease: it is what helped to tell the classes "
    "apart in one training.",
)

LIMITS = (
    "One training is shown. Another training of the same model, on the same patients even, makes "
    "other slots; what is seen here is a description of these weights and no finding about the "
    "biomarker.",
    "A slot is shown by the tiles most like it. The other tiles that go to it may look different: "
    "see the share of tiles, and the map over the whole slide.",
    "Evidence says which class a tile resembles in the model's memory. It is no probability, and "
    "not what a pathologist would mark.",
    "Dead is meant of these slides: on other slides, a slot that is dead here may be in use.",
    "Correlations with genes are of training cases, with which the memory was taught: they "
    "describe what was learnt, and are no test of an association. Cause they do not show.",
    "Nothing here may be used to decide about a patient.",
)

GLOSSARY = (
    ("slot", "One learnt pattern of a class: a direction that tiles are compared with."),
    (
        "cosine",
        "How like a tile is to a slot: 1 the same direction, 0 nothing in common, -1 opposite.",
    ),
    (
        "evidence (Score, eq. 7)",
        "Of a tile: its cosine to the nearest positive slot less that to the nearest negative one. "
        "Above 0 it speaks for the positive class. From -2 to 2, in practice near 0.",
    ),
    (
        "share of the evidence",
        "Of all evidence on a slide, for or against: the part of those tiles that are nearest to "
        "this slot of all. Over all slots the shares add up to 1.",
    ),
    (
        "share of the attention",
        "The weight that the model gives to those tiles. Over all slots it adds up to 1.",
    ),
    (
        "share of tiles",
        "For how many tiles the slot is the nearest of its class; within a class the shares add "
        "up to 1. Only there does it enter the evidence.",
    ),
    (
        "share of votes",
        "For how many tiles the slot is the nearest of all, of either class; all add up to 1.",
    ),
    ("dead slot", "One that is the nearest of its class for almost no tile of these slides."),
    ("duplicate", "Two slots of one class that point the same way: one of them would do."),
    (
        "twin",
        "A slot that points the same way as one of the other class: a tile near both says nothing.",
    ),
    (
        "active ratio, perplexity",
        "Share of a class's slots in use, and the number of slots that are used as if evenly. "
        "Diagnostics, no measure of quality.",
    ),
    (
        "rank correlation (Spearman's rho)",
        "Whether cases in which a slot is found more have more of a gene's expression: 1 always, "
        "0 no relation, -1 always less.",
    ),
    (
        "simultaneous interval",
        "An interval made wide enough for all comparisons at once: with 95 % probability every one "
        "of them holds its true value.",
    ),
    (
        "within class",
        "Cases are compared with cases of their own class only, so that a gene that merely tells "
        "the classes apart, as slots do, is not taken for one that goes with the slot.",
    ),
)
