"""The moving parts of a training run: how they start, are kept, and are put back."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_models.batch_norm import quicken
from mnist_models.checkpoint import Checkpoint
from mnist_models.models import Experiment
from mnist_models.optimisation import make_optimizer, make_schedule
from mnist_models.randomness import seed_of
from mnist_models.recipe import Recipe


class Average:
    """An exponential moving average of a network's weights and statistics.

    After n updates it keeps min(decay, (1 + n) / (10 + n)) of itself at the next one, so that the
    initial weights do not linger for the 1 / (1 - decay) steps that a plain average needs to
    forget them. Counts, which are no floating-point numbers, are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0  # counted here, not on the device: nothing waits for a GPU
        own, theirs = ([*net.parameters(), *net.buffers()] for net in (self.module, model))
        self._moved, self._copied = (
            [
                [value for value in values if value.is_floating_point() is floating]
                for values in (own, theirs)
            ]
            for floating in (True, False)
        )

    @property
    def share(self) -> float:
        """Of the way to the network's state, how much the next update goes."""
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    def update(self) -> None:
        """Move towards the network's present state."""
        self.move(self.share)
        self.updates += 1

    @torch.no_grad()
    def move(self, share: float | Tensor) -> None:
        """Go this share of the way to the network's present state, uncounted."""
        own, theirs = self._moved
        ways = torch._foreach_sub(theirs, own)  # no `lerp`, which of a tensor is a call for each
        torch._foreach_mul_(ways, share)
        torch._foreach_add_(own, ways)
        counts, theirs = self._copied
        if counts:
            torch._foreach_copy_(counts, theirs)


@dataclass
class Run:
    """The moving parts of a training run."""

    recipe: Recipe
    seed: int
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    average: Average | None
    steps: int  # per epoch

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and stored: the averaged one where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def learning_rate(self) -> float:
        """The learning rate that the next step will use."""
        return float(self.optimizer.param_groups[0]["lr"])


def start(experiment: Experiment, seed: int, images: int, device: torch.device) -> Run:
    """Draw the initial weights; make optimiser, schedule and average for `images` images."""
    recipe = experiment.recipe
    torch.manual_seed(seed_of(seed, "initial weights"))
    model = experiment.build().to(memory_format=torch.channels_last).to(device)
    return assemble(recipe, seed, model, images)


def assemble(recipe: Recipe, seed: int, model: nn.Module, images: int, lanes: int = 1) -> Run:
    """A run of this network, from its first step, on `images` images an epoch.

    The network may be a stack of `lanes` networks.
    """
    optimizer = make_optimizer(model, recipe, lanes)
    steps = math.ceil(images / recipe.batch_size)
    average = None if recipe.average is None else Average(model, recipe.average)
    if lanes == 1:  # others have channels enough
        quicken(model)
    schedule = make_schedule(optimizer, recipe, steps)
    return Run(recipe, seed, model, optimizer, schedule, average, steps)


def capture(run: Run, state: Checkpoint) -> None:
    """Copy the state of model, average, optimiser and schedule into the checkpoint."""
    optimizer = run.optimizer.state_dict()
    parts = {"model": run.model.state_dict()}
    if run.average is not None:
        parts["average"] = run.average.module.state_dict()
    for index, values in optimizer["state"].items():
        parts[f"optimizer.{index}"] = values
    state.tensors = {
        f"{part}.{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for part, values in parts.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    schedule = {} if run.schedule is None else run.schedule.state_dict()
    state.options = {
        "param_groups": optimizer["param_groups"],
        "updates": 0 if run.average is None else run.average.updates,
        "schedule": {
            key: value for key, value in schedule.items() if isinstance(value, int | float | list)
        },
    }


def restore(run: Run, state: Checkpoint) -> None:
    """Put the checkpoint's state back into a run that was just started."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in state.tensors.items()
            if name.startswith(prefix)
        }

    run.model.load_state_dict(part("model."))
    if run.average is not None:
        run.average.module.load_state_dict(part("average."))
        run.average.updates = state.options["updates"]
    parameters = run.optimizer.param_groups[0]["params"]
    values = {
        index: {name: _laid_out_as(parameter, value) for name, value in found.items()}
        for index, parameter in enumerate(parameters)
        if (found := part(f"optimizer.{index}."))
    }
    run.optimizer.load_state_dict({"state": values, "param_groups": state.options["param_groups"]})
    if run.schedule is not None:
        run.schedule.load_state_dict(run.schedule.state_dict() | state.options["schedule"])


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """The value in the memory layout of its parameter, which fused optimisers rely on."""
    if value.shape != parameter.shape:
        return value  # a step count
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
