"""An expression as a computational graph: read by `ast` against a list of what is allowed, computed and differentiated by torch."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.errors import ConfigError, join_choices, near_miss

LONGEST = 300  # characters of an expression

BINARY: dict[type[ast.operator], tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    ast.Add: ("+", torch.add),
    ast.Sub: ("-", torch.sub),
    ast.Mult: ("*", torch.mul),
    ast.Div: ("/", torch.div),
    ast.Pow: ("**", torch.pow),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"max": torch.maximum, "min": torch.minimum}
CALLS = (*FUNCTIONS, *PAIRS)


@dataclass(frozen=True)
class Node:
    """A variable, a constant or an operation: its label, value, gradient of the result by it (None for a constant), and its inputs.

    `inputs` are places in the list of nodes, `backward` is the name of autograd's own node ('' for variables and constants).
    """

    label: str
    value: float
    gradient: float | None
    inputs: tuple[int, ...]
    kind: str
    backward: str


def graph(expression: str, variables: Mapping[str, float]) -> list[Node]:
    """The nodes of an expression in an order in which each comes after its inputs, the result last; all in float64.

    One node for each variable, however often it stands; one for each constant and operation. Errors: ConfigError in one line for what is
    not allowed, for a variable without a value or a value without a variable, and where a value or gradient is not finite.
    """
    if len(expression) > LONGEST:
        raise ConfigError(f"expression: {len(expression)} characters; at most {LONGEST} can be drawn")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"expression={expression}: not an expression ({getattr(error, 'msg', error)})") from None
    build = _Build(expression, variables)
    result = build.visit(tree)
    unused = [name for name in variables if name not in build.places]
    if unused:
        names = sorted(build.places)
        raise ConfigError(
            f"{unused[0]}: the expression {expression} has no such name{near_miss(unused[0], names)}; names: {join_choices(names) or 'none'}"  # noqa: E501
        )
    return build.nodes(result)


class _Build:
    """The nodes met so far: (label, tensor, places of the inputs, kind)."""

    def __init__(self, expression: str, variables: Mapping[str, float]) -> None:
        self.expression = expression
        self.variables = variables
        self.found: list[tuple[str, Tensor, tuple[int, ...], str]] = []
        self.places: dict[str, int] = {}

    def visit(self, node: ast.expr) -> int:
        """The place of the node that computes `node`; only what is named here is ever computed."""
        match node:
            case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
                return self.add(f"{value:g}", self.constant(value), (), "constant")
            case ast.Name(id=name):
                return self.variable(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return self.add(f"-{value:g}", self.constant(-value), (), "constant")
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                place = self.visit(inner)
                return self.add("neg", torch.neg(self.found[place][1]), (place,), "operation")
            case ast.BinOp(op=operator, left=left, right=right) if type(operator) in BINARY:
                label, function = BINARY[type(operator)]
                a, b = self.visit(left), self.visit(right)
                return self.add(label, function(self.found[a][1], self.found[b][1]), (a, b), "operation")
            case ast.Call(func=ast.Name(id=name), args=[one], keywords=[]) if name in FUNCTIONS:
                place = self.visit(one)
                return self.add(name, FUNCTIONS[name](self.found[place][1]), (place,), "operation")
            case ast.Call(func=ast.Name(id=name), args=[left, right], keywords=[]) if name in PAIRS:
                a, b = self.visit(left), self.visit(right)
                return self.add(name, PAIRS[name](self.found[a][1], self.found[b][1]), (a, b), "operation")
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in CALLS:
                wanted = 1 if name in FUNCTIONS else 2
                raise ConfigError(f"expression: {name} takes {wanted} argument{'s' * (wanted > 1)}; it has {len(arguments)}")
            case ast.Call(func=ast.Name(id=name)):
                raise ConfigError(f"expression: {name}: no such function{near_miss(name, CALLS)}; functions: {join_choices(CALLS)}")
        part = ast.get_source_segment(self.expression.strip(), node) or type(node).__name__
        allowed = f"numbers, names, + - * / ** and the functions {join_choices(CALLS)}"
        raise ConfigError(f"expression: {part[:60]}: not allowed here; allowed: {allowed}")

    def constant(self, value: float) -> Tensor:
        """A number without a gradient."""
        try:
            return torch.tensor(float(value), dtype=torch.float64)
        except OverflowError:
            raise ConfigError("expression: a number in it is too large") from None

    def variable(self, name: str) -> int:
        """The one place of a variable."""
        if name not in self.places:
            if name not in self.variables:
                given = join_choices(f"{key}={value:g}" for key, value in self.variables.items()) or "none"
                raise ConfigError(f"{name}: this name of the expression has no value; add {name}=NUMBER; given: {given}")
            tensor = torch.tensor(self.variables[name], dtype=torch.float64, requires_grad=True)
            self.places[name] = self.add(name, tensor, (), "variable")
        return self.places[name]

    def add(self, label: str, tensor: Tensor, inputs: tuple[int, ...], kind: str) -> int:
        """A new node, whose gradient autograd will keep."""
        if not math.isfinite(tensor.item()):
            values = join_choices(f"{self.found[place][1].item():g}" for place in inputs)
            raise ConfigError(f"expression: {label} of {values} is {tensor.item()}: not a finite number")
        if tensor.requires_grad:
            tensor.retain_grad()
        self.found.append((label, tensor, inputs, kind))
        return len(self.found) - 1

    def nodes(self, result: int) -> list[Node]:
        """All nodes after the backward pass from `result`."""
        end = self.found[result][1]
        if not end.requires_grad:
            raise ConfigError(f"expression={self.expression}: no name in it, so there is nothing to differentiate by")
        end.backward()  # type: ignore[no-untyped-call]
        nodes = []
        for label, tensor, inputs, kind in self.found:
            gradient = float(tensor.grad) if tensor.grad is not None else None
            if gradient is not None and not math.isfinite(gradient):
                raise ConfigError(f"expression: the gradient at {label} is {gradient}: not a finite number")
            backward = tensor.grad_fn.name() if tensor.grad_fn is not None else ""
            nodes.append(Node(label, float(tensor.detach()), gradient, inputs, kind, backward))
        return nodes
