"""The graph of an expression from left to right, with the value above and the gradient below every node."""

from __future__ import annotations

from matplotlib.figure import Figure

from bakeoff.illustrations.expression import Node, evaluate_graph
from bakeoff.illustrations.gallery import GALLERY, Request
from bakeoff.illustrations.graph_layout import GraphLayout, layout_graph
from bakeoff.illustrations.illustration import EDGE_GREY, PALE_BLUE, DataTable, Illustration, titled_figure
from bakeoff.rendering.page import Plot
from bakeoff.rendering.palette import BLUE, INK, WASH
from bakeoff.rendering.plotly_backend import Spec, base_layout

EXAMPLE = {"x": -2.0, "y": 5.0, "z": -4.0}
"""Values of the default expression."""

FILL = {"variable": PALE_BLUE, "constant": WASH, "operation": "#ffffff"}
EDGE = {"variable": BLUE, "constant": EDGE_GREY, "operation": INK}
VALUE, GRADIENT = "#00724f", "#b34700"  # both at least 4.5 : 1 on white


def draw(request: Request) -> Illustration:
    """Draw the graph and the table of its nodes."""
    expression = request.options["expression"]
    is_default = not request.variables and expression == GALLERY["backprop"].options["expression"].default
    variables = EXAMPLE if is_default else request.variables
    nodes = evaluate_graph(expression, variables)
    layout = layout_graph([node.inputs for node in nodes])
    values = ", ".join(f"{name} = {value:g}" for name, value in variables.items())
    title = f"{expression} = {format_value(nodes[-1].value)}"
    notes = [
        f"At {values}. Green, above a node: its value, computed from left to right. Orange, below: the gradient of the result with respect "
        "to it, computed from right to left by torch's autograd. A variable that is used several times receives the sum of its gradients."
    ]
    rows = []
    for i, node in enumerate(nodes):
        inputs = " ".join(map(str, node.inputs)) or "-"
        rows.append([str(i), node.label, inputs, format_value(node.value), format_value(node.gradient), node.backward or "-"])
    table = DataTable("Every node", ("node", "label", "inputs", "value", "gradient", "autograd"), rows, file="backprop.csv")
    min_width = round(110 * (1 + max(column for column, _ in layout.positions)))
    plot = Plot("graph", graph_spec(nodes, layout), title, wide=True, min_width=min_width)
    note = f"at {values}; above: value; below: gradient"
    return Illustration(title, notes, graph_figure(nodes, layout, title=title, note=note), [plot], [table])


def format_value(value: float | None) -> str:
    """Return a number with at most four digits; a dash for None."""
    return "-" if value is None else f"{value + 0.0:.4g}"


def row_range(layout: GraphLayout) -> tuple[float, float]:
    """Return the least and the greatest row of nodes and bends."""
    rows = [row for _, row in layout.positions] + [row for _, _, points in layout.lines for _, row in points]
    return min(rows), max(rows)


def graph_figure(nodes: list[Node], layout: GraphLayout, *, title: str, note: str) -> Figure:
    """Draw the graph for PNG and SVG."""
    top, bottom = row_range(layout)
    columns = max(column for column, _ in layout.positions)
    figure = titled_figure(max(5.0, 1.35 * (columns + 1) + 0.8), max(2.6, 1.05 * (bottom - top + 1) + 0.8), title=title, note=note)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(-0.55, columns + 0.75), ylim=(-bottom - 0.62, -top + 0.62))
    for _, _, points in layout.lines:
        x, y = [column for column, _ in points], [-row for _, row in points]
        axes.plot(x, y, color=EDGE_GREY, linewidth=1.2, zorder=1)
        # The head of the arrow is slightly past the middle of the last segment.
        tail, tip = ((x[-2] + share * (x[-1] - x[-2]), y[-2] + share * (y[-1] - y[-2])) for share in (0.55, 0.58))
        axes.annotate("", xy=tip, xytext=tail, arrowprops={"arrowstyle": "-|>", "color": EDGE_GREY}, zorder=1)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9}
    for node, (column, row) in zip(nodes, layout.positions, strict=True):
        box = {"boxstyle": "round,pad=0.45", "facecolor": FILL[node.kind], "edgecolor": EDGE[node.kind], "linewidth": 1.3}
        axes.text(column, -row, f" {node.label} ", ha="center", va="center", fontsize=11, bbox=box, zorder=3)
        numbers = [(node.value, 0.27, "bottom", VALUE)]
        if node.gradient is not None:
            numbers.append((node.gradient, -0.27, "top", GRADIENT))
        for number, offset, side, colour in numbers:
            text = format_value(number)
            axes.text(column, -row + offset, text, ha="center", va=side, color=colour, fontsize=10, bbox=background, zorder=2)
    return figure


def graph_spec(nodes: list[Node], layout: GraphLayout) -> Spec:
    """Return the interactive plot: lines, labelled nodes, and the details of a node under the pointer."""
    x, y = [column for column, _ in layout.positions], [-row for _, row in layout.positions]
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for _, _, points in layout.lines:
        line_x += [*(column for column, _ in points), None]
        line_y += [*(-row for _, row in points), None]
    common = {"type": "scatter", "x": x, "hoverinfo": "skip"}
    marker = {
        "size": [max(38, 14 + 9 * len(node.label)) for node in nodes],
        "color": [FILL[node.kind] for node in nodes],
        "line": {"color": [EDGE[node.kind] for node in nodes], "width": 1.6},
        "opacity": 1,
        "symbol": ["square" if node.kind == "constant" else "circle" for node in nodes],
    }
    labels = {"text": [node.label for node in nodes], "textfont": {"size": 15}}
    values = {"text": [format_value(node.value) for node in nodes], "textfont": {"size": 14, "color": VALUE}}
    gradients = {
        "text": ["" if node.gradient is None else format_value(node.gradient) for node in nodes],
        "textfont": {"size": 14, "color": GRADIENT},
    }
    hover = {"hoverinfo": "text", "hovertext": [hover_text(node) for node in nodes]}
    traces = [
        {**common, "mode": "lines", "x": line_x, "y": line_y, "line": {"color": EDGE_GREY, "width": 1.5}},
        {**common, "mode": "markers+text", "y": y, "marker": marker, **labels, **hover},
        {**common, "mode": "text", "y": [v + 0.36 for v in y], **values},
        {**common, "mode": "text", "y": [v - 0.36 for v in y], **gradients},
    ]
    top, bottom = row_range(layout)
    plot_layout = base_layout(height=round(150 + 105 * (bottom - top)))
    plot_layout["xaxis"] |= {"visible": False, "range": [-0.5, max(x) + 0.5]}
    plot_layout["yaxis"] |= {"visible": False, "range": [-bottom - 0.65, -top + 0.65]}
    plot_layout["margin"] = {"l": 6, "r": 6, "t": 6, "b": 6}
    return {"data": traces, "layout": plot_layout}


def hover_text(node: Node) -> str:
    """Return the details of a node."""
    gradient = "" if node.gradient is None else f"<br>gradient {node.gradient:.8g}"
    origin = f"autograd: {node.backward}" if node.backward else node.kind
    return f"{node.label}: value {node.value:.8g}{gradient}<br>{origin}"
