"""A layered layout of a graph without circles: each node to the right of its inputs, with few crossings of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8


@dataclass(frozen=True)
class Layout:
    """(column, row) of every node, and every line as (from, to, the places that it runs through, its ends included)."""

    places: list[tuple[float, float]]
    lines: list[tuple[int, int, list[tuple[float, float]]]]


def layout(inputs: Sequence[Sequence[int]]) -> Layout:
    """Columns by the longest way from an input, rows by the mean of the neighbours, in a few sweeps (Sugiyama et al. 1981).

    `inputs[i]` are the nodes that node i takes, all below i. A node that takes none stands right before the first that takes it. A
    line over several columns has a bend in each, so that it does not run through nodes.
    """
    count = len(inputs)
    takers: list[list[int]] = [[] for _ in range(count)]
    column = [0] * count
    for node, parts in enumerate(inputs):
        for part in parts:
            takers[part].append(node)
            column[node] = max(column[node], column[part] + 1)
    for node in range(count):
        if not inputs[node] and takers[node]:
            column[node] = min(column[taker] for taker in takers[node]) - 1
    # Bends are nodes of their own while rows are sought.
    columns, neighbours, chains = list(column), [[] for _ in range(count)], []  # type: tuple[list[int], list[list[int]], list[list[int]]]
    for node, parts in enumerate(inputs):
        for part in parts:
            chain = [part]
            for between in range(column[part] + 1, column[node]):
                columns.append(between)
                neighbours.append([])
                chain.append(len(columns) - 1)
            chain.append(node)
            chains.append(chain)
            for left, right in pairwise(chain):
                neighbours[left].append(right)
                neighbours[right].append(left)
    members = [[i for i, c in enumerate(columns) if c == level] for level in range(max(columns) + 1)]
    row = [0.0] * len(columns)
    spread(members, row)
    for sweep in range(SWEEPS):
        for level in members if sweep % 2 == 0 else members[::-1]:
            side = -1 if sweep % 2 == 0 else 1
            means = {}
            for i in level:
                near = [row[j] for j in neighbours[i] if (columns[j] - columns[i]) * side > 0]
                means[i] = sum(near) / len(near) if near else row[i]
            level.sort(key=lambda i: means[i])
            spread([level], row)
    places = [(float(columns[i]), row[i]) for i in range(len(columns))]
    lines = [(chain[0], chain[-1], [places[i] for i in chain]) for chain in chains]
    return Layout(places[:count], lines)


def spread(members: Sequence[Sequence[int]], row: list[float]) -> None:
    """Rows one apart, centred on 0, in the order of each column."""
    for level in members:
        for place, i in enumerate(level):
            row[i] = place - (len(level) - 1) / 2
