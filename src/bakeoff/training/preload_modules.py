"""What a fork server imports once, so that each run forked from it starts in milliseconds."""

import pytorch_lightning
import pytorch_optimizer
import schedulefree
import timm.optim
import torch
import torch._dynamo
import torchvision

import bakeoff.components.initializers
import bakeoff.components.losses
import bakeoff.components.optimizers
import bakeoff.components.schedulers
import bakeoff.data.datamodule
import bakeoff.data.sources
import bakeoff.nets.alexnet
import bakeoff.nets.vgg
import bakeoff.training.run_training  # noqa: F401
from bakeoff.rendering.page import Section, render_page

__all__ = ["pytorch_lightning", "pytorch_optimizer", "schedulefree", "timm", "torch", "torchvision"]

render_page(title="", kicker="", light_only=True, blocks=[Section("")])  # compiles the templates, which takes longer than a page
