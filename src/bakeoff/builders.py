"""The only place where a component config becomes an object, and where a run is validated."""

from __future__ import annotations

import functools
import itertools
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import ARGUMENT_KEYS, build_errors, check_names_and_ranges, resolve_component, resolve_target
from bakeoff.errors import ArgumentError, ChoiceError, ConfigError, DataError, name_keys
from bakeoff.machine import available_cores

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bakeoff.components.initializers import Initializer
    from bakeoff.data.datamodule import ImageDataModule


def build_component(slot: str, config: Mapping[str, Any], **injected: Any) -> Any:
    """Build the object that a component config describes.

    Args:
        slot: The slot, which says what targets are allowed.
        config: `_target_` and arguments.
        **injected: The arguments that the code passes.

    Returns:
        The object.

    Raises:
        ChoiceError: The config is not allowed, or the target's own code raised an error.
    """
    return resolve_component(slot, config).build(**injected)


def make_activation(run: RunConfig) -> Callable[[], nn.Module]:
    """Return a factory of the run's activation: one new module a call."""
    component = resolve_component("activation", run.activation)

    def make_one() -> nn.Module:
        with build_errors("activation", run.activation):
            return typing.cast("nn.Module", component.target(**component.arguments))

    return make_one


def make_uninitialized_model(run: RunConfig) -> nn.Module:
    """Build the run's net with whatever weights its modules start with."""
    return typing.cast("nn.Module", build_component("model", run.model, activation=make_activation(run)))


def make_initializer(run: RunConfig) -> Initializer:
    """Build the run's initializer; a component config under its `rest` is built as well, by the same rules."""
    config = dict(run.initializer)
    rest = config.get("rest")
    if isinstance(rest, Mapping):
        try:
            config["rest"] = build_component("initializer", rest)
        except ChoiceError as error:
            raise ChoiceError(str(error).replace("initializer", "initializer.rest", 1)) from error
    elif isinstance(rest, str):
        example = "bakeoff.components.initializers.XavierNormal"
        raise ChoiceError(f"initializer.rest={rest}: names no choice, but holds a class: initializer.rest._target_={example}")
    return typing.cast("Initializer", build_component("initializer", config))


def make_model(run: RunConfig) -> nn.Module:
    """Build the run's net on the CPU, initialized from the run's seed: the same bits at every call.

    Args:
        run: The run.

    Returns:
        A net that takes images (N, channels, size, size) and gives scores (N, classes).
    """
    return make_initialized_model(run)[0]


def make_initialized_model(run: RunConfig) -> tuple[nn.Module, dict[str, str]]:
    """Build the net as `make_model` does, and return it with the facts that the initializer reports: tags for the run."""
    import torch

    from bakeoff import seeds

    # Modules draw their own first weights from the global generator, which is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive_seed(run.seed, "init"))
        net = make_uninitialized_model(run)
    initializer = make_initializer(run)
    arguments: dict[str, Any] = {}
    if initializer.needs_images:
        arguments["images"] = first_training_images(run, typing.cast("Any", initializer).images)
    if initializer.needs_source:
        arguments["source"] = load_trained_net(run, typing.cast("Any", initializer).run)
    facts = initialize(run, initializer, net, generator=seeds.make_generator(run.seed, "init"), **arguments)
    return net, dict(facts or {})


def initialize(run: RunConfig, initializer: Initializer, net: nn.Module, **arguments: Any) -> Mapping[str, str] | None:
    """Initialize a net with the gain of the run's activation, and its head as `initializer.head` says.

    Configs from before `head` and `auto_gain` lack them: their head is filled like the rest, by the gain of the second moment. Where
    layers are copied from another run, the head is none of its own, and the gain is that of `initializer.rest`.

    Args:
        run: The run.
        initializer: Its initializer.
        net: The net, which is filled in place.
        **arguments: The generator, and the images or the trained net that the initializer needs.

    Returns:
        The facts that the initializer reports.
    """
    from bakeoff.components.initializers import check_head, gain_by_rule, scale_head

    rest = run.initializer.get("rest")
    scales = rest if isinstance(rest, Mapping) else run.initializer
    with build_errors("initializer", scales):
        head = scales.get("head", "as_rest")
        check_head(head)
    with build_errors("activation", run.activation):
        gain = gain_by_rule(make_activation(run)(), scales.get("auto_gain", "second_moment"))
    with build_errors("initializer", run.initializer):
        facts = initializer(net, activation_gain=gain, **arguments)
    if not initializer.needs_source:
        scale_head(net, head)
    return facts


def first_training_images(run: RunConfig, number: int) -> torch.Tensor:
    """Return the first training images in the run's own order, as its net gets them but not augmented.

    Args:
        run: The run.
        number: How many; all where there are fewer.

    Returns:
        float32 (number, C, S, S) on the CPU, the same on every rank and whatever the batch size is.
    """
    import torch

    plain = {"data.augment": {}, "data.batch_size": 1, "data.workers": 0}
    plain |= {"trainer.accumulate": 1, "trainer.max_steps": None, "trainer.channels_last": False}
    data = set_up_data(run.replace(**plain))
    return torch.cat([images for images, _ in itertools.islice(data.train_dataloader(), number)])


def load_trained_net(run: RunConfig, name: str | None) -> nn.Module:
    """Load the trained net of another run onto the CPU.

    Args:
        run: The run that asks, whose folder and store are searched.
        name: The other run's id, a beginning of it, or its folder.

    Returns:
        The net with its trained weights.

    Raises:
        ChoiceError: No run is named, or its weights do not fit its net.
    """
    import torch

    from bakeoff.config.compose import load_frozen
    from bakeoff.tracking.client import usable_uri
    from bakeoff.tracking.trained_weights import load_trained_weights

    if not name:
        raise ChoiceError("initializer.run: names no run; take the id of one that is done, as in initializer.run=RUN_ID")
    trained = load_trained_weights(name, root=Path(run.tracking.folder), uri=usable_uri(run.tracking.uri))
    with torch.random.fork_rng(devices=[]):
        net = make_uninitialized_model(load_frozen(trained.config, origin=f"config of run {name}"))
    try:
        net.load_state_dict(trained.net)
    except RuntimeError as error:
        raise ChoiceError(f"initializer.run={name}: its weights do not fit its net as this version builds it: {error}") from None
    return net


def load_trained_model(run_dir: Path) -> nn.Module:
    """Build the net of a run, and load its last weights.

    Args:
        run_dir: The run's folder: its frozen config and its checkpoints.

    Returns:
        The net on the CPU in eval mode.

    Raises:
        FolderError: There is no checkpoint that can be read.
    """
    from bakeoff.config.compose import load_frozen
    from bakeoff.run_files.checkpoints import read_model_weights

    config = run_dir / "config.yaml"
    net = make_uninitialized_model(load_frozen(config.read_text(encoding="utf-8"), origin=str(config)))
    net.load_state_dict(read_model_weights(run_dir / "checkpoints"))
    return net.eval()


def make_optimizer(run: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the run's optimizer over the parameters of a net.

    Norm layers, biases and PReLU slopes get no weight decay unless `optimizer.decay_all` says so.
    """
    from bakeoff.components.optimizers import parameter_groups

    decay = run.optimizer.get("weight_decay")
    groups = parameter_groups(model, weight_decay=decay, decay_all=bool(run.optimizer.get("decay_all", False)))
    return typing.cast("torch.optim.Optimizer", build_component("optimizer", run.optimizer, params=groups))


def make_scheduler(
    run: RunConfig, optimizer: torch.optim.Optimizer, *, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Build the run's learning-rate schedule, which is stepped once an optimizer step.

    Args:
        run: The run.
        optimizer: Its optimizer.
        total_steps: Optimizer steps of the run.
        steps_per_epoch: Optimizer steps of an epoch.

    Returns:
        The scheduler.
    """
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    scheduler = build_component("scheduler", run.scheduler, optimizer=optimizer, **lengths)
    return typing.cast("torch.optim.lr_scheduler.LRScheduler", scheduler)


def make_loss(run: RunConfig) -> nn.Module:
    """Build the run's loss: loss(scores (N, classes), targets int64 (N,) or soft (N, classes)) -> mean over the batch."""
    return typing.cast("nn.Module", build_component("loss", run.loss))


def make_data(run: RunConfig) -> ImageDataModule:
    """Return the run's data module; nothing is read until its `setup`."""
    from bakeoff.data.batches import Augmentation
    from bakeoff.data.datamodule import ImageDataModule, InputFormat
    from bakeoff.data.epoch_sampler import BatchPlan
    from bakeoff.data.eval_views import ViewPlan
    from bakeoff.data.splits import SplitSpec

    data, source = run.data, resolve_component("data.source", run.data.source)
    return ImageDataModule(
        functools.partial(source.target, **source.arguments, root=Path(data.root).expanduser(), download=data.download),
        input_format=InputFormat(data.size, data.fit, data.normalize, channels=data.channels, channels_last=run.trainer.channels_last),
        batch_plan=BatchPlan(data.batch_size, run.seed, run.trainer.accumulate, run.trainer.max_steps, data.eval_batch_size),
        split_spec=SplitSpec(data.val_fraction, data.split_seed, data.subset, data.folds, data.fold),
        augmentation=Augmentation(data.augment.crop, data.augment.flip, tuple(data.augment.scale), data.augment.lighting),
        views=ViewPlan(kind=data.views.kind, flip=data.views.flip, scales=tuple(data.views.scales)),
        workers=data.workers if data.workers is not None else threads_per_process(run),
    )


def set_up_data(run: RunConfig, *, trainer: Any = None) -> ImageDataModule:
    """Return the run's data module, read and split, for the devices of Lightning's `trainer`; without one, for one process on the CPU."""
    data = make_data(run)
    data.trainer = trainer
    with data_errors(run):
        data.setup("fit")
    return data


@contextmanager
def data_errors(run: RunConfig) -> Iterator[None]:
    """Restate errors of the run's data with the configuration's keys.

    Raises:
        ChoiceError: The code inside the `with` block raised an ArgumentError.
        DataError: The code inside the `with` block raised one.
    """
    try:
        yield
    except (ArgumentError, DataError) as error:
        keys = {name: f"data.source.{name}" for name in run.data.source} | ARGUMENT_KEYS["data"]
        message = name_keys(str(error), lambda name: keys.get(name, f"data.{name}"))
        raise (DataError if isinstance(error, DataError) else ChoiceError)(message) from error


def make_fully_convolutional(net: nn.Module) -> nn.Module:
    """Return the form of a net that the dense views of the test need; see `bakeoff.nets.fully_convolutional`.

    Raises:
        ChoiceError: The net has no such form.
    """
    from bakeoff.nets.fully_convolutional import to_fully_convolutional

    try:
        return to_fully_convolutional(net)
    except ArgumentError as error:
        raise ChoiceError(f"data.views.kind=dense: {name_keys(str(error), lambda name: f'data.{name}')}") from error


def threads_per_process(run: RunConfig) -> int:
    """Return the CPU threads of each of the run's processes: its own number, or the cores shared out among its devices."""
    return run.trainer.threads or max(1, available_cores() // run.trainer.devices)


def validate_run(run: RunConfig, *, data: ImageDataModule | None = None) -> ImageDataModule:
    """Check a run before anything is written: its components, by a dry build of each, and its data, which are read and split.

    Args:
        run: The run.
        data: A data module of the same data config that is set up already, and then not read again.

    Returns:
        The run's data module, set up.

    Raises:
        BakeoffError: For the first thing that is wrong.
    """
    from bakeoff.data.datamodule import load_source

    validate_components(run)
    if data is None:
        data = make_data(run)
        with data_errors(run):
            classes = load_source(data.source)[0].classes
            _check_data_key(run, "num_classes", len(classes))  # before the setup, which decodes some of the images
            data.setup("fit")
    _check_data_key(run, "channels", data.channels)
    _check_full_batch(run, images=data.n_train)
    return data


def validate_components(run: RunConfig) -> None:
    """Check names and ranges, then the signature and a dry build of every component (the net on the meta device).

    Raises:
        ConfigError: For the first thing that is wrong.
    """
    import torch
    from torch import nn

    check_names_and_ranges(run)
    gpus = torch.cuda.device_count()
    if run.trainer.accelerator == "gpu" and gpus < run.trainer.devices:
        raise ConfigError(f"trainer.accelerator=gpu: this machine has {gpus} GPUs, trainer.devices={run.trainer.devices} are asked for")
    resolve_component("data.source", run.data.source)
    _check_activation(run)
    _check_model(run)
    small = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, run.data.num_classes))
    _check_initializer(run, small)
    make_scheduler(run, make_optimizer(run, small), total_steps=10, steps_per_epoch=5)
    _check_loss(run)


def _check_activation(run: RunConfig) -> None:
    """Try the activation on a small tensor: shape and finite values."""
    import torch

    from bakeoff.nets.parameter_matching import channel_expansion

    target = run.activation["_target_"]
    with build_errors("activation", run.activation):
        activation = make_activation(run)()
        expansion, _ = channel_expansion(activation)
        probe = torch.linspace(-3, 3, 24 * expansion).reshape(2, 3 * expansion, 2, 2)
        answer = activation(probe)
    shape = tuple(answer.shape)
    if shape != (2, 3, 2, 2):
        rule = "the shape must stay" if expansion == 1 else f"with an expansion of {expansion} it must give (2, 3, 2, 2)"
        raise ChoiceError(f"activation: {target} turns {tuple(probe.shape)} into {shape}; {rule}")
    if not answer.isfinite().all():
        raise ChoiceError(f"activation: {target} with these settings gives nan or inf for numbers between -3 and 3")


def _check_model(run: RunConfig) -> None:
    """Build the net on the meta device and pass two images through it."""
    import torch

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
        make_fully_convolutional(net)


def _check_initializer(run: RunConfig, small: nn.Module) -> None:
    """Try the initializer on `small`, a net for 2 x 2 images of 2 channels, or on the run's net where it copies from another."""
    import torch

    initializer, generator = make_initializer(run), torch.Generator().manual_seed(0)
    arguments: dict[str, Any] = {}
    net = small
    if initializer.needs_images:
        arguments["images"] = torch.randn(8, 2, 2, 2, generator=generator)
    if initializer.needs_source:
        arguments["source"] = load_trained_net(run, typing.cast("Any", initializer).run)
        with torch.device("meta"):
            net = make_uninitialized_model(run)
    initialize(run, initializer, net, generator=generator, **arguments)


def _check_loss(run: RunConfig) -> None:
    """Try the loss on classes and, where images are mixed, on probabilities of classes."""
    import torch

    classes, name = run.data.num_classes, run.loss["_target_"]
    targets = {"classes (N,)": torch.zeros(4, dtype=torch.long)}
    if run.data.augment.mixup or run.data.augment.cutmix:
        targets["the soft targets (N, classes) of mixup and cutmix"] = torch.full((4, classes), 1 / classes)
    loss_function = make_loss(run)
    for kind, target in targets.items():
        with build_errors("loss", run.loss):
            loss = loss_function(torch.zeros(4, classes, requires_grad=True), target)
        if loss.shape != () or not loss.requires_grad:
            raise ChoiceError(f"loss: {name} must give one number with a gradient for {kind}; it gives shape {tuple(loss.shape)}")


def _check_data_key(run: RunConfig, key: str, actual: int) -> None:
    """Refuse a data.<key> that is not what the dataset has."""
    value, source = getattr(run.data, key), run.data.source["_target_"].rpartition(".")[2]
    if value != actual:
        raise ConfigError(f"data.{key}={value}: {source} has {actual} in data.root={run.data.root}: set data.{key}={actual}")


def _check_full_batch(run: RunConfig, *, images: int) -> None:
    """Refuse batches that are not all training images where the optimizer evaluates one function several times a step."""
    from bakeoff.components.optimizers import needs_full_batch

    target = resolve_target("optimizer", run.optimizer)
    if not needs_full_batch(target):
        return
    name = getattr(target, "__name__", str(target))
    rules = (
        ("data.batch_size", run.data.batch_size, images, f"all {images} training images as one batch (fewer with data.subset)"),
        ("trainer.accumulate", run.trainer.accumulate, 1, "1"),
    )
    for key, value, needed, rule in rules:
        if value != needed:
            raise ConfigError(f"{key}={value}: {name} evaluates one function several times a step and needs {rule}")
    if run.trainer.precision == "16-mixed":
        raise ConfigError(f"trainer.precision=16-mixed: {name} does not go with the scaled gradients of float16")
