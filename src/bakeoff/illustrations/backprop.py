"""The graph of an expression, drawn from left to right, with the value above and the gradient below every node."""

from __future__ import annotations

from matplotlib.figure import Figure

from bakeoff.illustrations import paper
from bakeoff.illustrations.expression import Node, graph
from bakeoff.illustrations.gallery import GALLERY, Request
from bakeoff.illustrations.layers import Layout, layout

EXAMPLE = {"x": -2.0, "y": 5.0, "z": -4.0}
"""Values of the expression that is drawn where nothing is asked for."""

FILL = {"variable": "#dcebf7", "constant": paper.WASH, "operation": "#ffffff"}
EDGE = {"variable": paper.BLUE, "constant": "#9aa0a8", "operation": paper.INK}
VALUE, GRADIENT = "#00724f", "#b34700"  # both at least 4.5 : 1 on white


def draw(asked: Request) -> paper.Drawn:
    """One picture and one table of nodes."""
    expression = asked.options["expression"]
    plain = not asked.variables and expression == GALLERY["backprop"].options["expression"].default
    variables = EXAMPLE if plain else asked.variables
    nodes = graph(expression, variables)
    placed = layout([node.inputs for node in nodes])
    given = ", ".join(f"{name} = {value:g}" for name, value in variables.items())
    title = f"{expression} = {short(nodes[-1].value)}"
    notes = [
        f"At {given}. Green, above: the value, from left to right. Orange, below: the gradient of the result by that node, from right to "
        "left, as torch's autograd leaves it. A name that is used several times gets the sum of the gradients that come back to it.",
    ]
    rows = [
        [str(i), node.label, " ".join(str(k) for k in node.inputs) or "-", short(node.value), short(node.gradient), node.backward or "-"]
        for i, node in enumerate(nodes)
    ]
    table = paper.Table("Every node", ("node", "what", "takes", "value", "gradient", "autograd"), rows, file="backprop.csv")
    least = round(110 * (1 + max(column for column, _ in placed.places)))
    plot = paper.Plot("", spec(nodes, placed), wide=True, least=least)
    return paper.Drawn(title, notes, picture(nodes, placed, title, given), [plot], [table])


def short(value: float | None) -> str:
    """A number with at most four digits; a dash where there is none."""
    return "-" if value is None else f"{value + 0.0:.4g}"


def picture(nodes: list[Node], placed: Layout, title: str, given: str) -> Figure:
    """The graph for PNG and SVG."""
    rows = heights(placed)
    columns = max(column for column, _ in placed.places)
    sheet = paper.sheet(max(5.0, 1.35 * (columns + 1) + 0.8), max(2.6, 1.05 * (max(rows) - min(rows) + 1) + 0.8))
    paper.head(sheet, title, f"at {given}; above: value; below: gradient")
    axes = paper.quiet(sheet.add_subplot())
    axes.set(xlim=(-0.55, columns + 0.75), ylim=(-max(rows) - 0.62, -min(rows) + 0.62))
    for _, _, places in placed.lines:
        x, y = [column for column, _ in places], [-row for _, row in places]
        axes.plot(x, y, color="#9aa0a8", linewidth=1.2, zorder=1)
        # The head of the arrow stands a little past the middle of the last stretch.
        tail, tip = ((x[-2] + share * (x[-1] - x[-2]), y[-2] + share * (y[-1] - y[-2])) for share in (0.55, 0.58))
        axes.annotate("", xy=tip, xytext=tail, arrowprops={"arrowstyle": "-|>", "color": "#9aa0a8"}, zorder=1)
    for node, (column, row) in zip(nodes, placed.places, strict=True):
        look = {"boxstyle": "round,pad=0.45", "facecolor": FILL[node.kind], "edgecolor": EDGE[node.kind], "linewidth": 1.3}
        axes.text(column, -row, f" {node.label} ", ha="center", va="center", fontsize=11, bbox=look, zorder=3)
        back = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
        axes.text(column, -row + 0.27, short(node.value), ha="center", va="bottom", color=VALUE, fontsize=10, bbox=back, zorder=2)
        if node.gradient is not None:
            axes.text(column, -row - 0.27, short(node.gradient), ha="center", va="top", color=GRADIENT, fontsize=10, bbox=back, zorder=2)
    return sheet


def heights(placed: Layout) -> list[float]:
    """The rows of all nodes and of all bends."""
    return [row for _, row in placed.places] + [row for _, _, places in placed.lines for _, row in places]


def spec(nodes: list[Node], placed: Layout) -> paper.Spec:
    """The interactive plot: lines, boxes with labels, and all figures of a node where it is pointed at."""
    x, y = [column for column, _ in placed.places], [-row for _, row in placed.places]
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for _, _, places in placed.lines:
        line_x += [*(column for column, _ in places), None]
        line_y += [*(-row for _, row in places), None]
    hints = [
        f"{node.label}: value {node.value:.8g}"
        + ("" if node.gradient is None else f"<br>gradient {node.gradient:.8g}")
        + (f"<br>autograd: {node.backward}" if node.backward else f"<br>{node.kind}")
        for node in nodes
    ]
    common = {"type": "scatter", "x": x, "y": y, "hoverinfo": "skip"}
    data = [
        {"type": "scatter", "mode": "lines", "x": line_x, "y": line_y, "line": {"color": "#9aa0a8", "width": 1.5}, "hoverinfo": "skip"},
        {
            **common, "mode": "markers+text", "text": [node.label for node in nodes], "textfont": {"size": 15}, "hoverinfo": "text",
            "hovertext": hints,
            "marker": {
                "size": [max(38, 14 + 9 * len(node.label)) for node in nodes], "color": [FILL[node.kind] for node in nodes],
                "line": {"color": [EDGE[node.kind] for node in nodes], "width": 1.6},
                "opacity": 1,
                "symbol": ["square" if node.kind == "constant" else "circle" for node in nodes],
            },
        },
        {
            **common, "mode": "text", "y": [v + 0.36 for v in y], "text": [short(node.value) for node in nodes],
            "textfont": {"size": 14, "color": VALUE},
        },
        {
            **common, "mode": "text", "y": [v - 0.36 for v in y], "textfont": {"size": 14, "color": GRADIENT},
            "text": ["" if node.gradient is None else short(node.gradient) for node in nodes],
        },
    ]  # fmt: skip
    rows = heights(placed)
    tall = max(rows) - min(rows)
    look = paper.layout(height=round(150 + 105 * tall))
    look["xaxis"] |= {"visible": False, "range": [-0.5, max(x) + 0.5]}
    look["yaxis"] |= {"visible": False, "range": [-max(rows) - 0.65, -min(rows) + 0.65]}
    look["margin"] = {"l": 6, "r": 6, "t": 6, "b": 6}
    return {"data": data, "layout": look}
