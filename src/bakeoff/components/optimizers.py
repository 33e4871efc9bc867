"""Optimizers that the libraries lack, and the parameter groups of every optimizer: with and without weight decay.

Each class is a torch Optimizer: all of its groups have `lr` and follow the schedule, and its `state_dict` holds only tensors and plain
types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from bakeoff.errors import check_argument

# The names that a config may use as a target.
__all__ = ["LBFGS", "MomentumCaffe", "Muon"]

Closure = Callable[[], Any]
Groups = Iterable[Any]

# Their parameters scale or shift a signal; decaying them does not penalize the size of the function.
UNDECAYED = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
)


def parameters_with_decay(net: nn.Module) -> list[tuple[nn.Parameter, bool]]:
    """Return the distinct trainable parameters, in the order of the net's modules, and whether each decays."""
    decays_by_id: dict[int, tuple[nn.Parameter, bool]] = {}
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                decays = not isinstance(module, UNDECAYED) and not name.endswith("bias")
                decays_by_id.setdefault(id(parameter), (parameter, decays))
    return list(decays_by_id.values())


def decayed_parameters(net: nn.Module, *, decay_all: bool = False) -> list[nn.Parameter]:
    """Return the parameters on which a weight decay or a penalty acts: all but norms, biases and PReLU slopes, or all with `decay_all`."""
    return [parameter for parameter, decays in parameters_with_decay(net) if decays or decay_all]


def parameter_groups(net: nn.Module, *, weight_decay: float | None, decay_all: bool = False) -> list[dict[str, Any]]:
    """Return the distinct trainable parameters as groups for a torch optimizer, in the order of the net's modules; no group is empty.

    Norm parameters, biases and PReLU slopes form a second group with `weight_decay` 0, unless `weight_decay` is 0 or None (for an
    optimizer without one, whose groups lack the key) or `decay_all` is set, as in the papers of AlexNet and VGG.
    """
    split = bool(weight_decay) and not decay_all
    parameters = parameters_with_decay(net)
    decayed = [parameter for parameter, decays in parameters if decays or not split]
    undecayed = [parameter for parameter, decays in parameters if split and not decays]
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    groups = [{"params": decayed, **decay}, {"params": undecayed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def evaluate_closure(closure: Closure | None) -> Any:
    """Return the closure's loss, with gradients on; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class MomentumCaffe(Optimizer):
    """SGD with the learning rate inside the velocity: v <- m v - lr (wd w + g); w <- w + v.

    Krizhevsky, Sutskever, Hinton (2012), section 5, and Caffe's solver. torch's SGD multiplies by lr outside; the two agree while lr
    is constant and differ when it drops: this velocity keeps the rate at which it was accumulated.
    """

    def __init__(self, params: Groups, *, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 5e-4) -> None:
        """Set the learning rate, the share of the velocity that a step keeps, and the L2 decay."""
        check_argument("lr", lr, fits=lr > 0, rule="must be above 0")
        check_argument("momentum", momentum, fits=0 <= momentum < 1, rule="must be at least 0 and below 1")
        check_argument("weight_decay", weight_decay, fits=weight_decay >= 0, rule="must be 0 or more")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient; return the closure's loss, if there is a closure."""
        loss = evaluate_closure(closure)
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(w, memory_format=torch.preserve_format)
                v = state["velocity"].mul_(group["momentum"]).add_(w.grad, alpha=-group["lr"])
                if group["weight_decay"]:
                    v.add_(w, alpha=-group["lr"] * group["weight_decay"])
                w.add_(v)
        return loss


class Muon(Optimizer):
    """Muon for the hidden weights, AdamW for the rest, as one optimizer: Jordan et al. (2024), kellerjordan.github.io/posts/muon.

    Weights of two or more dimensions are updated by `torch.optim.Muon`, which takes only matrices: a conv kernel (out, in, k, k) is
    reshaped to (out, in k k). One-dimensional parameters, and the last weight in the order of the net's modules (the layer of the
    scores) unless `last` is "muon", are updated by AdamW at `adamw_lr`. Weight decay is decoupled in both. `adjust_lr_fn` is the
    factor of the rate for a matrix (A, B): "original" sqrt(max(1, A/B)), "match_rms_adamw" 0.2 sqrt(max(A, B)) (arXiv:2502.16982), or
    "spectral_unclamped" sqrt(A/B). Each group stores its `rule`.
    """

    def __init__(
        self,
        params: Groups,
        *,
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw", "spectral_unclamped"] = "original",
        weight_decay: float = 0.01,
        last: Literal["adamw", "muon"] = "adamw",
        adamw_lr: float = 5e-4,
        adamw_betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
    ) -> None:
        """Divide the parameters between the two rules; see the class for the arguments."""
        for name, rate in (("lr", lr), ("adamw_lr", adamw_lr)):
            check_argument(name, rate, fits=rate > 0, rule="must be above 0")
        check_argument("momentum", momentum, fits=0 <= momentum < 1, rule="must be at least 0 and below 1")
        for name, number in (("weight_decay", weight_decay), ("adamw_eps", adamw_eps)):
            check_argument(name, number, fits=number >= 0, rule="must be 0 or more")
        check_argument("ns_steps", ns_steps, fits=1 <= ns_steps < 100, rule="must be at least 1 and below 100")
        betas_fit = all(0 <= beta < 1 for beta in adamw_betas)
        check_argument("adamw_betas", list(adamw_betas), fits=betas_fit, rule="must be at least 0 and below 1")
        groups = [dict(group) if isinstance(group, dict) else {"params": [group]} for group in params]
        for group in groups:
            group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        matrices = [id(p) for group in groups for p in group["params"] if p.ndim >= 2]
        matrices = matrices[:-1] if last == "adamw" else matrices
        muon = {"rule": "muon", "lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        adam = {"rule": "adamw", "lr": adamw_lr, "betas": adamw_betas, "eps": adamw_eps}
        # Muon's groups come first, so that its rate is the one that a run reports.
        divided = [
            {**group, "params": [p for p in group["params"] if (id(p) in matrices) == by_muon], **rule}
            for by_muon, rule in ((True, muon), (False, adam))
            for group in groups
        ]
        super().__init__([group for group in divided if group["params"]], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient; return the closure's loss, if there is a closure."""
        loss = evaluate_closure(closure)
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                (self._step_muon if group["rule"] == "muon" else self._step_adamw)(weights, group)
        return loss

    def _step_muon(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update weights by a `torch.optim.Muon` that exists only for this call."""
        matrices = []
        for w in weights:
            matrix = nn.Parameter(as_matrix(w))
            matrix.grad = as_matrix(w.grad)  # type: ignore[arg-type]
            matrices.append(matrix)
        names = ("lr", "weight_decay", "momentum", "nesterov", "ns_steps", "adjust_lr_fn")
        inner = torch.optim.Muon(matrices, **{name: group[name] for name in names})
        for w, matrix in zip(weights, matrices, strict=True):
            if self.state[w]:
                inner.state[matrix] = self.state[w]
        inner.step()  # type: ignore[no-untyped-call]
        for w, matrix in zip(weights, matrices, strict=True):
            self.state[w] = inner.state[matrix]
            if matrix.data_ptr() != w.data_ptr():  # flattening a channels_last kernel has copied it
                w.copy_(matrix.view_as(w))

    def _step_adamw(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update weights by torch's AdamW."""
        for w in weights:
            if not self.state[w]:
                zeros = {name: torch.zeros_like(w, memory_format=torch.preserve_format) for name in ("exp_avg", "exp_avg_sq")}
                self.state[w] = {"step": torch.zeros((), dtype=torch.float32), **zeros}
        states = [self.state[w] for w in weights]
        adamw(
            weights,
            [w.grad for w in weights if w.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def as_matrix(weight: Tensor) -> Tensor:
    """Return (out, in, k, k) as (out, in k k): a view where the memory allows one, else a copy."""
    return weight.detach().reshape(len(weight), -1)


def needs_full_batch(optimizer: object) -> bool:
    """Return whether an optimizer class assumes that the loss is the same function at every evaluation.

    L-BFGS estimates curvature from differences of gradients of a fixed function, which it evaluates several times per step (Liu,
    Nocedal 1989): with a new batch in each step those differences are noise. A user's class declares it by `needs_full_batch = True`.
    """
    return getattr(optimizer, "needs_full_batch", isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS))


class LBFGS(torch.optim.LBFGS):
    """torch's L-BFGS (Liu, Nocedal 1989) for nets of any memory layout; the batch must be the entire training set.

    See `needs_full_batch`. torch's class flattens gradients with `view`, which fails for a channels_last kernel: they are made
    contiguous first.
    """

    def __init__(
        self,
        params: Groups,
        *,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        history_size: int = 10,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        line_search_fn: Literal["strong_wolfe"] | None = "strong_wolfe",
    ) -> None:
        """Check the arguments, which are torch's."""
        check_argument("lr", lr, fits=lr > 0, rule="must be above 0")
        for name, number in (("max_iter", max_iter), ("max_eval", max_eval), ("history_size", history_size)):
            check_argument(name, number, fits=number is None or number >= 1, rule="must be at least 1")
        for name, tolerance in (("tolerance_grad", tolerance_grad), ("tolerance_change", tolerance_change)):
            check_argument(name, tolerance, fits=tolerance >= 0, rule="must be 0 or more")
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            max_eval=max_eval,
            history_size=history_size,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            line_search_fn=line_search_fn,
        )

    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Take up to `max_iter` iterations, each with its own evaluations; return the first loss."""

        def contiguous() -> Any:
            loss = closure()
            for weight in self.param_groups[0]["params"]:
                if weight.grad is not None:
                    weight.grad = weight.grad.contiguous()
            return loss

        return super().step(contiguous)  # type: ignore[no-untyped-call]
