"""What the page says about its plots and tables: how to read them, and how their figures came about."""

from __future__ import annotations

TITLES = {
    "trade": "Size, accuracy, speed",
    "gained": "What each method gained and lost",
    "confused": "What is taken for what",
    "tiers": "The tiers",
    "targets": "Targets, and what fell short",
    "ablation": "The ablation",
    "article": "The article's claims beside ours",
    "pairs": "Confused pairs",
    "measured": "How it was measured",
}
"""The sections in the order of the page."""

NO_SCORES = "<p>No card and no row of the study tells an accuracy.</p>"
NO_PAIRS = "<p>No card names its weakest intents.</p>"
TRADE = (
    "Up and to the left is better. Filled: entries of the catalog, on their test parts; bars span the "
    "seeds. A small x is the same model as FP32; a small cross is a target. Open circles: rows of the "
    "study, on validation parts unless a note says otherwise. The lines are Pareto fronts: solid for "
    "entries, dotted for rows. Triangles point to what lies further down."
)
GAINED = "Each row beside the unchanged model it was made from. Triangles point to what lies beyond the edge."
CONFUSED = (
    "Intents that are recognised worst, each with what it is most often taken for: the share of its test "
    "sentences that an entry missed. Blank: the pair is not among those that this entry's card names."
)
TIERS = (
    "Accuracy on the test part of each set, what is served and, beneath it, the model as FP32. A target "
    "is held against the mean of the seeds where there are several."
)
GATES = (
    "Thresholds are chosen on validation, to cost a point of accuracy there at most; here is what they do "
    "on the test part."
)
VARIANTS = (
    "Measured side by side, on the first set's validation part, before one was chosen; sizes are without "
    "the tokenizer."
)
TARGETS = "What the cards promise. What was not met comes first."
ABLATION = (
    "In small figures: points of accuracy against the unchanged model, and multiples of its size, time "
    "and parameters. Times compare where rows were timed in turns, as their notes say, and with equally "
    "many tokens; sizes are of the model file alone. Accuracy is of validation parts unless a note says "
    "otherwise."
)
ARTICLE = (
    "Ours are rows of the study for the same method, in parentheses the points against the unchanged "
    "model; other models and other data, so compare the differences."
)
PAIRS = "Every pair that a card names."
MEASURED = "Figures of one column compare where they were measured on the same machine."
DEFINITIONS = (
    "<dl><dt>accuracy</dt><dd>each sentence alone, in ONNX Runtime, by the file that is served; a "
    "validation part decided, the test part was looked at once</dd><dt>size</dt><dd>model and tokenizer, "
    "10<sup>6</sup> bytes</dd><dt>memory</dt><dd>resident, of a process that serves the entry and nothing "
    "else</dd><dt>p50</dt><dd>median of one run with one sentence of 11 tokens on one thread, without "
    "tokenisation, on the machine that the entry names</dd><dt>speed</dt><dd>p50 of the model as FP32 "
    "divided by its own, both timed in turns: 2 x is twice as fast</dd></dl>"
)
