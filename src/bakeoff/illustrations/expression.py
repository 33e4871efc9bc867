"""An expression as a computational graph: parsed by `ast`, limited to listed operations, evaluated and differentiated by torch."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bakeoff.errors import ConfigError, join_choices, near_miss

MAX_LENGTH = 300  # characters of an expression

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
    """A `variable`, `constant` or `operation` (its `kind`), computed from the nodes with the numbers `inputs`."""

    label: str
    tensor: Tensor
    inputs: tuple[int, ...]
    kind: str

    @property
    def value(self) -> float:
        """The value of the node."""
        return float(self.tensor.detach())

    @property
    def gradient(self) -> float | None:
        """The gradient of the result with respect to the node; None for a constant."""
        return None if self.tensor.grad is None else float(self.tensor.grad)

    @property
    def backward(self) -> str:
        """The name of the autograd node; '' for variables and constants."""
        return "" if self.tensor.grad_fn is None else self.tensor.grad_fn.name()


def evaluate_graph(expression: str, variables: Mapping[str, float]) -> list[Node]:
    """Evaluate an expression and its gradients in float64, with a value for each of its variables.

    Returns:
        The nodes, each after its inputs and the result last; a variable has a single node, however often it is used.

    Raises:
        ConfigError: An operation is not allowed, variables and values do not correspond, or a value or gradient is not finite.
    """
    if len(expression) > MAX_LENGTH:
        raise ConfigError(f"expression: has {len(expression)} characters; the maximum is {MAX_LENGTH}")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"expression={expression}: not a valid expression ({getattr(error, 'msg', error)})") from None
    builder = _GraphBuilder(expression, variables)
    result = builder.visit(tree)
    unused = [name for name in variables if name not in builder.variable_nodes]
    if unused:
        names = sorted(builder.variable_nodes)
        hint = f"{near_miss(unused[0], names)}; variables: {join_choices(names) or 'none'}"
        raise ConfigError(f"{unused[0]}: the expression {expression} has no such variable{hint}")
    builder.differentiate(result)
    return builder.nodes


class _GraphBuilder:
    """Evaluates an expression node by node; nodes are identified by their number."""

    def __init__(self, expression: str, variables: Mapping[str, float]) -> None:
        self.expression = expression
        self.variables = variables
        self.nodes: list[Node] = []
        self.variable_nodes: dict[str, int] = {}

    def visit(self, node: ast.expr) -> int:
        """Return the number of the graph's node for a syntax node; only the syntax that is listed in this method is evaluated."""
        match node:
            case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
                return self.constant(value)
            case ast.Name(id=name):
                return self.variable(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return self.constant(-value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.operation("neg", torch.neg, operand)
            case ast.BinOp(op=operator, left=left, right=right) if type(operator) in BINARY:
                label, function = BINARY[type(operator)]
                return self.operation(label, function, left, right)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                return self.operation(name, FUNCTIONS[name], argument)
            case ast.Call(func=ast.Name(id=name), args=[left, right], keywords=[]) if name in PAIRS:
                return self.operation(name, PAIRS[name], left, right)
        raise self.syntax_error(node)

    def syntax_error(self, node: ast.expr) -> ConfigError:
        """Return the error for syntax that is not allowed."""
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in CALLS:
                count = 1 if name in FUNCTIONS else 2
                return ConfigError(f"expression: {name} takes {count} argument{'s' * (count > 1)}, not {len(arguments)}")
            case ast.Call(func=ast.Name(id=name)):
                return ConfigError(f"expression: {name}: no such function{near_miss(name, CALLS)}; functions: {join_choices(CALLS)}")
        part = ast.get_source_segment(self.expression.strip(), node) or type(node).__name__
        allowed = f"numbers, variables, + - * / ** and the functions {join_choices(CALLS)}"
        return ConfigError(f"expression: {part[:60]}: not allowed; allowed: {allowed}")

    def operation(self, label: str, function: Callable[..., Tensor], *operands: ast.expr) -> int:
        """Add an operation after its operands."""
        inputs = tuple(self.visit(operand) for operand in operands)
        return self.add(label, function(*(self.nodes[i].tensor for i in inputs)), inputs, "operation")

    def constant(self, value: float) -> int:
        """Add a number, which has no gradient."""
        try:
            tensor = torch.tensor(float(value), dtype=torch.float64)
        except OverflowError:
            raise ConfigError(f"expression={self.expression}: contains a number that is too large") from None
        return self.add(f"{value:g}", tensor, (), "constant")

    def variable(self, name: str) -> int:
        """Return the node of a variable, added at its first use."""
        if name not in self.variable_nodes:
            if name not in self.variables:
                values = join_choices(f"{key}={value:g}" for key, value in self.variables.items()) or "none"
                raise ConfigError(f"{name}: this variable of the expression has no value; add {name}=NUMBER; values so far: {values}")
            tensor = torch.tensor(self.variables[name], dtype=torch.float64, requires_grad=True)
            self.variable_nodes[name] = self.add(name, tensor, (), "variable")
        return self.variable_nodes[name]

    def add(self, label: str, tensor: Tensor, inputs: tuple[int, ...], kind: str) -> int:
        """Add a node, for which autograd will keep the gradient."""
        if not math.isfinite(tensor.item()):
            values = join_choices(f"{self.nodes[i].tensor.item():g}" for i in inputs)
            raise ConfigError(f"expression: {label} of {values} is {tensor.item()}, not a finite number")
        if tensor.requires_grad:
            tensor.retain_grad()
        self.nodes.append(Node(label, tensor, inputs, kind))
        return len(self.nodes) - 1

    def differentiate(self, result: int) -> None:
        """Compute the gradients of a node with respect to all nodes before it."""
        output = self.nodes[result].tensor
        if not output.requires_grad:
            raise ConfigError(f"expression={self.expression}: must contain a variable, since gradients are taken with respect to variables")
        output.backward()  # type: ignore[no-untyped-call]
        for node in self.nodes:
            if node.gradient is not None and not math.isfinite(node.gradient):
                raise ConfigError(f"expression: the gradient at {node.label} is {node.gradient}, not a finite number")
