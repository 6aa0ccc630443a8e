"""One finite row of ten logits for each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnist_models.checks.result import CheckResult
from mnist_models.plural import counted
from mnist_models.probe import digits, run

_HELP = "return one (B, 10) float tensor of logits from forward"


def check_shape(module: nn.Module) -> CheckResult:
    """``(B, 1, 28, 28) -> (B, 10)``, finite and floating, for batches of 1, 2 and 5 images.

    A single image may give ``(10,)``: a `squeeze` without a dimension does not harm the rest.

    Raises:
        Exception: whatever the module's forward raises.
    """
    cause = "ten logits an image"
    for count in (1, 2, 5):
        output = run(module, digits(count, seed=40 + count), values=False).output
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            return _failed(kind, f"the forward pass returns no tensor, but a {kind}")
        shape = str(tuple(output.shape))
        if count == 1 and tuple(output.shape) == (10,):
            cause = "ten logits an image; a single one loses its batch dimension"
        elif tuple(output.shape) != (count, 10):
            return _failed(
                shape, f"for {counted(count, 'image')} it gives {shape}; expected {(count, 10)}"
            )
        if not output.is_floating_point():
            return _failed(str(output.dtype), f"the logits are {output.dtype}")
        if not torch.isfinite(output).all():
            return _failed("not finite", "some logits are infinite or no number")
    return CheckResult("output-shape", True, "(B, 10)", "(B, 10)", "shape", cause)


def _failed(measured: str, cause: str) -> CheckResult:
    return CheckResult("output-shape", False, measured, "(B, 10)", "shape", cause, _HELP)
