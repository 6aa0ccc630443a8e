"""Training or evaluation mode, of a stranger's module."""

from __future__ import annotations

from torch import nn


class ModeError(TypeError):
    """The module has a `train` or `eval` of its own that switches no mode: what to do."""


def set_mode(module: nn.Module, training: bool) -> None:
    """``module.train(training)``.

    Raises:
        ModeError: a method of the module's own that bears the name does something else.
    """
    try:
        module.train(training)
    except Exception as error:
        if type(module).train is nn.Module.train:
            raise
        name = type(module).__name__
        raise ModeError(
            f"{name}.train({training}) failed ({type(error).__name__}: {error}): torch switches "
            "training and evaluation mode by it; give this method of your own another name"
        ) from error
