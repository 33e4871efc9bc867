"""The only place where a leaf of a config becomes an object, after the door has checked it."""

from __future__ import annotations

import functools
import itertools
import os
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import build_errors, check_target_names, checked_arguments, resolve_target
from bakeoff.errors import ChoiceError, ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bakeoff.components.initializers import Initializer
    from bakeoff.data.datamodule import ImageDataModule


def make(slot: str, leaf: Mapping[str, Any], **given: Any) -> Any:
    """The object that a leaf describes; `given` are the arguments that the code passes."""
    thing = resolve_target(slot, leaf)
    keywords = checked_arguments(slot, leaf, thing)
    with build_errors(slot, leaf):
        return thing(**keywords, **given)


def make_activation(run: RunConfig) -> Callable[[], nn.Module]:
    """A factory of the run's activation: one new module a call."""
    thing = resolve_target("activation", run.activation)
    keywords = checked_arguments("activation", run.activation, thing)
    return lambda: typing.cast("nn.Module", thing(**keywords))


def make_uninitialized_model(run: RunConfig) -> nn.Module:
    """The run's net with whatever weights its modules start with."""
    return typing.cast("nn.Module", make("model", run.model, activation=make_activation(run)))


def make_initializer(run: RunConfig) -> Initializer:
    """The run's initializer; a leaf of its own under `rest` becomes one too, by the same door."""
    leaf = dict(run.initializer)
    rest = leaf.get("rest")
    if isinstance(rest, Mapping):
        try:
            leaf["rest"] = make("initializer", rest)
        except ChoiceError as error:
            raise ChoiceError(str(error).replace("initializer", "initializer.rest", 1)) from error
    elif isinstance(rest, str):
        known = "bakeoff.components.initializers.XavierNormal"
        raise ChoiceError(f"initializer.rest={rest}: names no choice, but holds a class: initializer.rest._target_={known}")
    return typing.cast("Initializer", make("initializer", leaf))


def make_model(run: RunConfig) -> nn.Module:
    """The run's net on the CPU, initialized from the run's seed: the same bits at every call.

    Takes images (N, channels, size, size), gives scores (N, classes).
    """
    return make_initialized_model(run)[0]


def make_initialized_model(run: RunConfig) -> tuple[nn.Module, dict[str, str]]:
    """`make_model`, and the facts that the initializer tells: tags for the run."""
    import torch

    from bakeoff import seeds
    from bakeoff.components.initializers import activation_gain

    # Modules draw their own first weights from the global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive_seed(run.seed, "init"))
        net = make_uninitialized_model(run)
    initializer = make_initializer(run)
    given: dict[str, Any] = {}
    if initializer.needs_images:
        given["images"] = first_training_images(run, typing.cast("Any", initializer).images)
    if initializer.needs_source:
        given["source"] = trained_net(run, typing.cast("Any", initializer).run)
    with build_errors("initializer", run.initializer):
        gain = activation_gain(make_activation(run)())
        facts = initializer(net, activation_gain=gain, generator=seeds.make_generator(run.seed, "init"), **given)
    return net, dict(facts or {})


def first_training_images(run: RunConfig, number: int) -> torch.Tensor:
    """The first training images in the run's own order, as its net gets them but not augmented: float32 [number or all, C, S, S].

    They are on the CPU, and the same on every rank and whatever the batch is.
    """
    import torch

    plain = {"data.augment": {}, "data.batch_size": 1, "data.workers": 0}
    plain |= {"trainer.accumulate": 1, "trainer.max_steps": None, "trainer.channels_last": False}
    data = make_data(run.replace(**plain))
    data.setup("fit")
    return torch.cat([images for images, _ in itertools.islice(data.train_dataloader(), number)])


def trained_net(run: RunConfig, name: str | None) -> nn.Module:
    """The trained net of another run, on the CPU; `name` is its id, a beginning of it, or its folder."""
    import torch

    from bakeoff.config.compose import load_frozen
    from bakeoff.tracking.store import default_uri
    from bakeoff.tracking.trained_weights import load_trained_weights

    if not name:
        raise ChoiceError("initializer.run: names no run; take the id of one that is done, as in initializer.run=RUN_ID")
    found = load_trained_weights(name, root=Path(run.tracking.folder), uri=run.tracking.uri or default_uri(Path.cwd()))
    with torch.random.fork_rng(devices=[]):
        net = make_uninitialized_model(load_frozen(found.config, origin=f"config of run {name}"))
    try:
        net.load_state_dict(found.net)
    except RuntimeError as error:
        raise ChoiceError(f"initializer.run={name}: its weights do not fit its net as this version builds it: {error}") from None
    return net


def make_optimizer(run: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The run's optimizer over `model`; norm layers, biases and PReLU slopes get no weight decay unless `optimizer.decay_all`."""
    from bakeoff.components.optimizers import parameter_groups

    decay = run.optimizer.get("weight_decay")
    groups = parameter_groups(model, weight_decay=decay, decay_all=bool(run.optimizer.get("decay_all", False)))
    return typing.cast("torch.optim.Optimizer", make("optimizer", run.optimizer, params=groups))


def make_scheduler(
    run: RunConfig, optimizer: torch.optim.Optimizer, *, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The run's learning-rate schedule, stepped once an optimizer step; its lengths come from the run's own number of steps."""
    made = make("scheduler", run.scheduler, optimizer=optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return typing.cast("torch.optim.lr_scheduler.LRScheduler", made)


def make_loss(run: RunConfig) -> nn.Module:
    """The run's loss, called as loss(scores (N, classes), targets) -> mean over the batch; targets: int64 (N,), or soft (N, classes)."""
    return typing.cast("nn.Module", make("loss", run.loss))


def make_data(run: RunConfig) -> ImageDataModule:
    """The run's data module; nothing is read until its `setup`."""
    from bakeoff.data.datamodule import ImageDataModule
    from bakeoff.data.eval_views import ViewPlan

    data, source = run.data, resolve_target("data.source", run.data.source)
    keywords = checked_arguments("data.source", data.source, source)
    return ImageDataModule(
        functools.partial(source, **keywords, root=Path(data.root).expanduser(), download=data.download),
        size=data.size,
        fit=data.fit,
        crop=data.augment.crop,
        flip=data.augment.flip,
        normalize=data.normalize,
        batch_size=data.batch_size,
        accumulate=run.trainer.accumulate,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        subset=data.subset,
        folds=data.folds,
        fold=data.fold,
        seed=run.seed,
        eval_batch_size=data.eval_batch_size,
        max_steps=run.trainer.max_steps,
        channels_last=run.trainer.channels_last,
        lighting=data.augment.lighting,
        scale=data.augment.scale,
        views=ViewPlan(kind=data.views.kind, flip=data.views.flip, scales=tuple(data.views.scales)),
        channels=data.channels,
        workers=data.workers if data.workers is not None else run.trainer.threads or max(1, available_cores() // run.trainer.devices),
    )


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_components(run: RunConfig) -> None:
    """The whole door: names and ranges, then signatures and a dry build of every choice (the net on the meta device)."""
    import torch
    from torch import nn

    from bakeoff.nets.fully_convolutional import to_fully_convolutional
    from bakeoff.nets.parameter_matching import channel_expansion

    check_target_names(run)
    gpus = torch.cuda.device_count()
    if run.trainer.accelerator == "gpu" and gpus < run.trainer.devices:
        raise ConfigError(f"trainer.accelerator=gpu: this machine has {gpus} GPUs, trainer.devices={run.trainer.devices} are asked for")
    resolve_target("data.source", run.data.source)
    with build_errors("activation", run.activation):
        activation = make_activation(run)()
        expansion, _ = channel_expansion(activation)
        probe = torch.linspace(-3, 3, 24 * expansion).reshape(2, 3 * expansion, 2, 2)
        answer = activation(probe)
    shape = tuple(answer.shape)
    if shape != (2, 3, 2, 2):
        rule = "the shape must stay" if expansion == 1 else f"with an expansion of {expansion} it must give (2, 3, 2, 2)"
        raise ChoiceError(f"activation: {run.activation['_target_']} turns {tuple(probe.shape)} into {shape}; {rule}")
    if not answer.isfinite().all():
        raise ChoiceError(f"activation: {run.activation['_target_']} with these settings gives nan or inf for numbers between -3 and 3")
    data = run.data
    with torch.device("meta"), build_errors("model", run.model):
        net = make_uninitialized_model(run)
        scores = net(torch.empty(2, data.channels, data.size, data.size))
    if tuple(scores.shape) != (2, data.num_classes):
        raise ChoiceError(
            f"model: {run.model['_target_']} gives scores of shape {tuple(scores.shape)} for 2 images; "
            f"data.num_classes={data.num_classes} needs (2, {data.num_classes})"
        )
    if data.views.kind == "dense":
        to_fully_convolutional(net)
    small = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, data.num_classes))
    check_initializer(run, small)
    with build_errors("optimizer", run.optimizer):
        optimizer = make_optimizer(run, small)
    make_scheduler(run, optimizer, total_steps=10, steps_per_epoch=5)
    check_loss(run)


def check_loss(run: RunConfig) -> None:
    """A dry run of the loss, on classes and, where images are mixed, on probabilities of classes."""
    import torch

    classes, name = run.data.num_classes, run.loss["_target_"]
    targets = {"classes (N,)": torch.zeros(4, dtype=torch.long)}
    if run.data.augment.mixup or run.data.augment.cutmix:
        targets["the soft targets (N, classes) of mixup and cutmix"] = torch.full((4, classes), 1 / classes)
    for kind, target in targets.items():
        with build_errors("loss", run.loss):
            loss = make_loss(run)(torch.zeros(4, classes, requires_grad=True), target)
        if loss.shape != () or not loss.requires_grad:
            raise ChoiceError(f"loss: {name} must give one number with a gradient for {kind}; it gives shape {tuple(loss.shape)}")


def check_initializer(run: RunConfig, small: nn.Module) -> None:
    """A dry run of the initializer: on `small`, a net for 2 x 2 images of 2 channels, or on the real one where it copies from another."""
    import torch

    from bakeoff.components.initializers import activation_gain

    initializer, generator = make_initializer(run), torch.Generator().manual_seed(0)
    given: dict[str, Any] = {}
    net = small
    if initializer.needs_images:
        given["images"] = torch.randn(8, 2, 2, 2, generator=generator)
    if initializer.needs_source:
        given["source"] = trained_net(run, typing.cast("Any", initializer).run)
        with torch.device("meta"):
            net = make_uninitialized_model(run)
    with build_errors("initializer", run.initializer):
        initializer(net, activation_gain=activation_gain(make_activation(run)()), generator=generator, **given)
