"""A layered layout of an acyclic graph: each node to the right of its inputs, with few line crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8
Point = tuple[float, float]
"""(column, row)."""


@dataclass(frozen=True)
class GraphLayout:
    """The position of every node, and every line as (from, to, its points, including both ends)."""

    positions: list[Point]
    lines: list[tuple[int, int, list[Point]]]


def layout_graph(inputs: Sequence[Sequence[int]]) -> GraphLayout:
    """Place nodes in columns by the longest path from an input, and in rows by the mean of their neighbours (Sugiyama et al. 1981).

    `inputs` lists the inputs of each node, all of lower number. A node without inputs is in the column before its first consumer. A
    line over several columns has a bend in each, so that it avoids the nodes.
    """
    node_columns = _node_columns(inputs)
    # Bends count as nodes in the computation of rows; a chain is a line with its bends.
    columns = list(node_columns)
    chains: list[list[int]] = []
    for node, sources in enumerate(inputs):
        for source in sources:
            bends = range(len(columns), len(columns) + node_columns[node] - node_columns[source] - 1)
            columns += range(node_columns[source] + 1, node_columns[node])
            chains.append([source, *bends, node])
    rows = _rows(columns, chains)
    points = [(float(column), row) for column, row in zip(columns, rows, strict=True)]
    return GraphLayout(points[: len(inputs)], [(chain[0], chain[-1], [points[i] for i in chain]) for chain in chains])


def _node_columns(inputs: Sequence[Sequence[int]]) -> list[int]:
    """Return the column of each node."""
    columns = [0] * len(inputs)
    consumers: list[list[int]] = [[] for _ in inputs]
    for node, sources in enumerate(inputs):
        for source in sources:
            consumers[source].append(node)
            columns[node] = max(columns[node], columns[source] + 1)
    return [
        min(columns[consumer] for consumer in consumers[node]) - 1 if not sources and consumers[node] else columns[node]
        for node, sources in enumerate(inputs)
    ]


def _rows(columns: Sequence[int], chains: Sequence[Sequence[int]]) -> list[float]:
    """Return the row of each node and bend: columns are sorted by the mean row of their neighbours on the left and right in turn."""
    neighbours: list[list[int]] = [[] for _ in columns]
    for chain in chains:
        for left, right in pairwise(chain):
            neighbours[left].append(right)
            neighbours[right].append(left)
    levels = [[i for i, column in enumerate(columns) if column == level] for level in range(max(columns) + 1)]
    rows = [0.0] * len(columns)
    for level in levels:
        _centre(level, rows)
    for sweep in range(SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        for level in levels if side < 0 else levels[::-1]:
            means = {}
            for i in level:
                fixed = [rows[j] for j in neighbours[i] if (columns[j] - columns[i]) * side > 0]
                means[i] = sum(fixed) / len(fixed) if fixed else rows[i]
            level.sort(key=lambda i: means[i])
            _centre(level, rows)
    return rows


def _centre(level: Sequence[int], rows: list[float]) -> None:
    """Set the rows of a column's nodes, in their order, with a spacing of 1 and centred on 0."""
    for place, i in enumerate(level):
        rows[i] = place - (len(level) - 1) / 2
