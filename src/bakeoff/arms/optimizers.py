"""What an optimizer is given: the parameters of a net in groups, those that decay and those that do not."""

from __future__ import annotations

from typing import Any

from torch import nn

# Their parameters scale or shift a signal; pulling them to zero is no penalty on the size of the function.
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


def parameter_groups(net: nn.Module, *, weight_decay: float | None, decay_all: bool = False) -> list[dict[str, Any]]:
    """Trainable parameters as one or two groups for a torch optimizer, each once, in the order of the net's modules.

    The second group holds norm parameters, biases and PReLU slopes with `weight_decay` 0. There is one group only where that makes
    no difference: with `decay_all` (what the papers of AlexNet and VGG did), with a decay of 0, or with None (an optimizer that
    has no `weight_decay`, and whose groups get no such key). No group is empty.
    """
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    split = bool(weight_decay) and not decay_all
    seen: set[int] = set()
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            exempt = isinstance(module, UNDECAYED) or name.endswith("bias")
            (rest if split and exempt else decayed).append(parameter)
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    groups = [{"params": decayed, **decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
