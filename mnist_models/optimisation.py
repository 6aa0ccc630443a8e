"""A recipe's optimiser and learning-rate schedule, all of them torch's own."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from mnist_models.muon import Muon
from mnist_models.recipe import Constant, OneCycle, Plateau, Power, Recipe, Step

# What is left of the first rate at the end of a one-cycle schedule: nothing, for any purpose,
# without being zero, which OneCycleLR refuses.
_FINAL_DIVISOR = 1e9


def make_optimizer(model: nn.Module, recipe: Recipe, lanes: int = 1) -> Optimizer:
    """The recipe's optimiser over all parameters of the model, or of `lanes` of them stacked."""
    parameters, rate, decay = model.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return SGD(
            parameters,
            lr=rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=decay,
            fused=True,
        )
    if recipe.optimizer == "muon":
        return Muon(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay, lanes=lanes)
    if recipe.optimizer == "adam":
        return Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    return AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def make_schedule(optimizer: Optimizer, recipe: Recipe, steps: int) -> LRScheduler | None:
    """The recipe's schedule; `steps` is the number of steps of one epoch."""
    match recipe.schedule:
        case Constant():
            return None
        case Step(every, gamma):
            return StepLR(optimizer, every, gamma)
        case Power(base):
            return LambdaLR(optimizer, lambda epoch: base**epoch)
        case Plateau(factor, patience, threshold):
            return ReduceLROnPlateau(
                optimizer, factor=factor, patience=patience, threshold=threshold
            )
        case OneCycle(warm_up, start_divisor, anneal):
            return OneCycleLR(
                optimizer,
                recipe.learning_rate,
                total_steps=recipe.epochs * steps,
                pct_start=warm_up,
                anneal_strategy=anneal,
                cycle_momentum=False,
                div_factor=start_divisor,
                final_div_factor=_FINAL_DIVISOR,
            )


def end_step(schedule: LRScheduler | None) -> None:
    """Advance a schedule that counts steps."""
    if isinstance(schedule, OneCycleLR):
        schedule.step()


def end_epoch(schedule: LRScheduler | None, train_loss: float) -> None:
    """Advance a schedule that counts epochs."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(train_loss)
    elif schedule is not None and not isinstance(schedule, OneCycleLR):
        schedule.step()
