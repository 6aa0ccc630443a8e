"""Running a stranger's forward pass without leaving a mark on the module.

Everything here is put back: parameters, buffers, training flags, the states of the random
generators, also when the forward raises. `copy.deepcopy` fails on some modules, so values are
saved and restored in place.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from mnist_models.intervention import Changes, Intervention, Replace, Unchanged
from mnist_models.mode import set_mode
from mnist_models.module_state import State, buffers, parameters, walk
from mnist_models.randomness import seed_global_generators
from mnist_models.trace import Trace, address, as_logits
from mnist_models.tracer import Escapes, Tracer

SIDE = 28  # pixels
_SMALLEST_VARIANCE = 1e-6  # of a feature that is constant by chance
_MEAN, _STD = 0.1307, 0.3081  # of the MNIST training pixels in [0, 1]


@contextlib.contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Put the module and all global random generators back as they were.

    A forward on entry gives lazy modules their shapes; it is part of what is undone, except
    that they stay materialised, with the values they were given.
    """
    flags = [(part, part.__dict__.get("training")) for part in walk(module).values()]
    python, arrays = random.getstate(), np.random.get_state()
    state = State(module)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            _warm_up(module)
            state.extend()
            yield
        finally:
            state.restore()
            for part, flag in flags:
                if flag is not None:
                    part.__dict__["training"] = flag
            random.setstate(python)
            np.random.set_state(arrays)


def _warm_up(module: nn.Module) -> None:
    """Lazy modules and attributes made on first use come into being here."""
    set_mode(module, training=False)
    with torch.no_grad(), quiet():
        module(digits(2, seed=0).to(_device(module)))


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in parameters(module).values()), torch.device("cpu"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A stranger's warnings are not ours; compiled modules run eagerly, to be seen."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        if "torch._dynamo" in sys.modules:  # nothing is compiled while it is not imported
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def digits(count: int, seed: int) -> Tensor:
    """Synthetic strokes normalised as MNIST, ``(count, 1, 28, 28)``: from -0.42 to 2.82."""
    found = _strokes(count, seed, torch.get_default_dtype())
    return found.clone()  # a module may write into what it is given


def grey_levels(images: Tensor) -> Tensor:
    """The same images as they are before they are normalised, ``(B, 1, 28, 28)``: from 0 to 1."""
    return images * _STD + _MEAN


@lru_cache(maxsize=32)  # each check of each module asks for the same few batches
def _strokes(count: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, 2, generator=generator, dtype=dtype)
    corners = corners * 18 + 5  # inside, as MNIST's digits
    grid = torch.stack(torch.meshgrid(*[torch.arange(SIDE, dtype=dtype)] * 2, indexing="ij"), -1)
    start, end = corners[:, :-1, None, None], corners[:, 1:, None, None]
    along = ((grid - start) * (end - start)).sum(-1) / ((end - start) ** 2).sum(-1).clamp(min=1e-6)
    distance = (start + along.clamp(0, 1)[..., None] * (end - start) - grid).norm(dim=-1)
    ink = (2 - distance.amin(1)).clamp(0, 1)  # strokes about 3 pixels wide
    ink = ink * (0.7 + 0.4 * torch.rand(ink.shape, generator=generator, dtype=dtype))
    # 255 grey levels, the darkest often: a network could tell other images from MNIST's.
    ink = (ink.clamp(max=1) * 255).round() / 255
    image: Tensor = ((ink - _MEAN) / _STD)[:, None]
    return image


def randomise(
    module: nn.Module, seed: int, *, positive: bool = False, statistics: bool = True
) -> None:
    """Draw all parameters at random, in place, so that zero-initialised scales hide no path.

    With `statistics` running ones become 0 and 1. What is frozen while others are not stays,
    and so does what is frozen and zero: training will not change it. `positive` draws averaging
    weights, under which no two paths cancel.
    """
    generator = torch.Generator().manual_seed(seed)
    found = parameters(module)
    trained = any(tensor.requires_grad for tensor in found.values())
    with torch.no_grad():
        for name, tensor in found.items():
            frozen = not tensor.requires_grad and (trained or not tensor.any())
            # A parametrization may need its own form, such as a diagonal of ones.
            frozen = frozen or (".parametrizations." in f".{name}" and bool(tensor.any()))
            if not frozen and (tensor.is_floating_point() or tensor.is_complex()):
                tensor.copy_(_draw(name, tensor, generator, positive))
        for name, tensor in buffers(module).items():
            if statistics and name.endswith("running_mean"):
                tensor.zero_()
            elif statistics and name.endswith("running_var"):
                tensor.fill_(1)


def _draw(name: str, tensor: Tensor, generator: torch.Generator, positive: bool) -> Tensor:
    shape = tuple(tensor.shape)
    uniform = torch.rand(shape, generator=generator) + 0.5
    fan_in = max(1, tensor[0].numel()) if tensor.ndim >= 2 else 1
    if positive:
        bias = tensor.ndim < 2 and "bias" in name
        return uniform * 0.01 if bias else uniform / fan_in
    normal = torch.randn(shape, generator=generator)
    if tensor.ndim < 2:
        return normal * 0.1 if "bias" in name else uniform
    # Scales such as (1, C, 1, 1) are no weights of a sum.
    return normal * (2 / fan_in) ** 0.5 if sum(size > 1 for size in shape) > 1 else uniform


def relative_change(before: Tensor, after: Tensor, spread: Tensor | None = None) -> float:
    """Root mean square difference, in standard deviations of `spread` (default: `before`).

    Raises:
        UnmeasurableError: the logits are not finite or all the same.
    """
    scale = (before if spread is None else spread).double().std()
    if not (torch.isfinite(before).all() and torch.isfinite(scale) and scale > 0):
        raise UnmeasurableError("with random parameters the logits are not finite or all the same")
    difference = (after.double() - before.double()).square().mean().sqrt() / scale
    return float(torch.nan_to_num(difference, nan=float("inf")))


def calibrate(module: nn.Module) -> None:
    """Set running statistics to those of a batch, as training would, so that features vary.

    With random parameters, means of 0 and variances of 1 would leave squashing activations
    nearly constant.
    """
    trace = run(module, digits(16, seed=3), training=True)
    with torch.no_grad():
        for node in trace.nodes:
            features = node.operand("input", "self")
            mean, var = node.operand("running_mean"), node.operand("running_var")
            if "batch_norm" not in node.name or features is None or mean is None or var is None:
                continue
            value = features.value
            if value is None or value.shape[1:2] != mean.shape or not value.isfinite().all():
                continue
            dims = [dim for dim in range(value.ndim) if dim != 1]
            known = {id(tensor) for tensor in buffers(module).values()}
            if id(mean.tensor) in known and id(var.tensor) in known:
                mean.tensor.copy_(value.mean(dims))
                var.tensor.copy_(value.var(dims, correction=0) + _SMALLEST_VARIANCE)


class UnmeasurableError(RuntimeError):
    """The property cannot be measured on this module; the message says why."""


def run(
    module: nn.Module,
    image: Tensor,
    *,
    training: bool = False,
    seed: int = 0,
    replace: Mapping[int, Replace] | None = None,
    values: bool | Collection[int] = True,
    grad: bool | None = None,
    inference: bool = False,
    partial: Tracer | None = None,
) -> Trace:
    """One traced forward, with all generators seeded; gradients are on as `training` is.

    Running statistics come back as they were, so that each forward starts alike.

    Raises:
        Exception: whatever the module's forward raises.
    """
    tracer = partial or make_tracer(module, image, values, Changes(replace or {}))
    before = register_module_forward_pre_hook(tracer.enter_module)
    after = register_module_forward_hook(tracer.leave_module, always_call=True)
    wanted = training if grad is None else grad
    try:
        with _forward(module, training, seed, wanted), torch.inference_mode(inference):
            # Switching the mode may have put others in their place.
            tracer.trace.buffers = {address(t): name for name, t in buffers(module).items()}
            with torch.set_grad_enabled(wanted), Escapes(tracer), tracer:
                output = module(image)
            return tracer.finish(output, training)
    finally:
        before.remove()
        after.remove()


def answer(
    module: nn.Module,
    image: Tensor,
    changes: Changes | None = None,
    *,
    training: bool = False,
    seed: int = 0,
) -> Tensor:
    """The logits of a forward with something changed; as that of `run`, which takes longer.

    Raises:
        NoLogitsError: the forward returned something else than a tensor.
        Exception: whatever the module's forward raises.
    """
    changed = Intervention(changes or Changes())
    with _forward(module, training, seed, training), Unchanged(), changed:
        output = module(image)
    logits: Tensor = as_logits(output, training).detach().clone()
    return logits


@contextlib.contextmanager
def _forward(module: nn.Module, training: bool, seed: int, grad: bool) -> Iterator[None]:
    """One forward in this mode, from this state of all generators; its tensors come back."""
    seed_global_generators(seed)
    set_mode(module, training)
    state = State(module)
    try:
        with torch.set_grad_enabled(grad), quiet():
            yield
    finally:
        state.restore()


def make_tracer(
    module: nn.Module,
    image: Tensor,
    values: bool | Collection[int] = True,
    changes: Changes | None = None,
) -> Tracer:
    names = {id(part): path for path, part in walk(module).items()}
    return Tracer(list(parameters(module).values()), image, names, values, changes)
