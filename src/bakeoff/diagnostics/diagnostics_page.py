"""The page of a run's diagnostics: a small, self-contained HTML file without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bakeoff.diagnostics.charts import format_number, line_chart
from bakeoff.diagnostics.layer_stats import STATS, LayerStats
from bakeoff.diagnostics.rules import Diagnosis, RunHistory
from bakeoff.rendering.page import Block, Bullets, Cell, Grid, Section, Table, render_page

LOG_SCALED = ("activation_std", "gradient_norm", "gradient_share", "update_ratio", "weight_norm")
SIGNED = ("activation_mean",)
LIGHT, DARK = (247, 250, 253), (0, 94, 148)
"""The ends of the colour scale of the tables."""


def run_page(
    title: str, history: RunHistory, diagnoses: Sequence[Diagnosis], *, more: Sequence[Block] = (), skipped: Mapping[str, str] | None = None
) -> str:
    """Return the HTML page of a run; `more` are the sections of `diagnostics=full`, `skipped` the failed parts (name -> reason)."""
    probe = f"The probe is {history.probe_images} training images; the chance loss is {format_number(history.chance_loss)}."
    if diagnoses:
        items = [(diagnosis.name, diagnosis.text) for diagnosis in diagnoses]
        blocks: list[Block] = [Section("Diagnoses", [Bullets(items, warning=True)], notes=[probe])]
    else:
        blocks = [Section("No diagnosis", notes=[f"No known fault was detected. {probe}"])]
    if skipped:
        note = "These measurements failed; the training was not affected."
        blocks.append(Section("Skipped", [Bullets(list(skipped.items()))], notes=[note]))
    losses = {name: curve for name in ("train/loss", "val/loss") if (curve := history.curve(name))}
    if losses:
        blocks.append(Section("Loss", [line_chart(losses, reference=("chance", history.chance_loss))]))
    tables = [table for stat in STATS if (table := stat_section(stat, history.layer_stats)) is not None]
    return render_page(title=title, kicker="bakeoff diagnostics", light_only=True, blocks=[*blocks, Grid(tables), *more])


def stat_section(stat: str, measurements: Sequence[LayerStats]) -> Section | None:
    """Return a statistic as a heatmap with a row per layer and a column per step; None if no layer has it."""
    measured = [stats for stats in measurements if any(stat in values for values in stats.layers.values())]
    names = sorted({name for stats in measured for name, values in stats.layers.items() if stat in values})
    if not names:
        return None
    finite = [value for stats in measured for value in stats.by_layer(stat).values()]
    rows = [[name, *(_cell(stat, stats.layers.get(name, {}).get(stat), finite) for stats in measured)] for name in names]
    head = ["step", *(f"{stats.step:,}" for stats in measured)]
    return Section(stat.replace("_", " "), [Table(head, rows, row_headers=True, heatmap=True)], notes=[f"{STATS[stat].capitalize()}."])


def _cell(stat: str, value: float | None, finite: Sequence[float]) -> str | Cell:
    if value is None:
        return ""
    if not math.isfinite(value):
        return Cell(format_number(value), css_class="wrong")
    share = _position(stat, value, finite)
    colour = ",".join(str(round(a + (b - a) * share)) for a, b in zip(LIGHT, DARK, strict=True))
    return Cell(format_number(value), background=f"rgb({colour})", light_text=share > 0.55)


def _position(stat: str, value: float, finite: Sequence[float]) -> float:
    """Return the position of a value on the colour scale of its table, 0 to 1."""
    if stat in LOG_SCALED:
        logarithms = [math.log(v) for v in finite if v > 0]
        if value <= 0 or not logarithms:
            return 0.0
        low, high, value = min(logarithms), max(logarithms), math.log(value)
    elif stat in SIGNED:
        low, high, value = 0.0, max(abs(v) for v in finite), abs(value)
    else:
        low, high = 0.0, 1.0
    return (value - low) / (high - low) if high > low else 0.0
