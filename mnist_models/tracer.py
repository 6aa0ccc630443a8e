"""The modes under which a forward pass is recorded.

A dispatch mode sees the operations below modules, functional forms, hooks and TorchScript.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_models.intervention import SAME, Changes, flat, in_parts
from mnist_models.trace import Node, Operand, Storage, Taint, Trace, address

# Written without being read: what stood there before does not matter to the result.
_OVERWRITES = {"copy_", "fill_", "zero_", "random_", "uniform_", "normal_", "bernoulli_", "set_"}

_FILES = {"from_file"}  # what they give was stored on the disk

_ALIASES = {"_convolution": "convolution"}  # TorchScript's name; the arguments are the same

# What torch itself can do, as it was before any code of a stranger ran.
_OPERATIONS = frozenset(name.split(".")[0] for name in torch._C._dispatch_get_all_op_names())
_KERNELS = frozenset(torch.library._impls)
_COMPUTES = ("CPU", "CompositeExplicitAutograd", "CompositeImplicitAutograd", "/Autograd")
# These come with torchvision, when that is imported.
_VISION = {"deform_conv2d", "nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"}
_VISION |= {"cuda_version"}  # asked at its import, which may be in the forward pass


class Tracer(TorchDispatchMode):
    """Records operations.

    Args:
        parameters: all registered parameters.
        image: the input, whose storage is the image's.
        names: module path by ``id`` of the module.
        values: whether to copy every tensor that is met (`Operand.value`), or the numbers of
            the operations whose tensors to copy.
        changes: of what the operations give.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        image: Tensor,
        names: Mapping[int, str],
        values: bool | Collection[int] = True,
        changes: Changes | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.trace = Trace()
        self.busy = False  # our own reads are no escapes
        self._names = names
        self._changes = changes or Changes()
        self._values = values
        self._index: dict[object, int] = {}
        self._modules: list[nn.Module] = []
        self._keep: list[Tensor] = []
        for parameter in parameters:
            self._storage(parameter, Taint.PARAMETER, stored=True)
        self._storage(image, Taint.IMAGE, stored=False)
        self.trace.image = self._operand(image)

    def enter_module(self, module: nn.Module, _args: object) -> None:
        """A module begins: operations are its own from here on."""
        self._modules.append(module)

    def leave_module(self, module: nn.Module, _args: object, _output: object) -> None:
        """A module ends."""
        if self._modules and self._modules[-1] is module:
            self._modules.pop()

    def finish(self, output: Any, training: bool = False) -> Trace:
        """The trace of a forward pass that returned `output` in this mode."""
        self.trace.output, self.trace.training = output, training
        if replaced := _replaced_kernels():
            self.trace.opaque = f"the code replaces torch's {replaced} by its own"
        if isinstance(output, Tensor):
            self._values = True
            self.trace.logits = self._operand(output)
        return self.trace

    def taint(self, tensor: Tensor) -> Taint:
        """What a tensor depends on."""
        index = self._index.get(address(tensor))
        return Taint.NONE if index is None else self.trace.storages[index].taint

    def _storage(self, tensor: Tensor, taint: Taint, stored: bool) -> int:
        key = address(tensor)
        if key not in self._index:
            self._index[key] = len(self.trace.storages)
            self.trace.storages.append(Storage(taint, stored, tensor))
        self._keep.append(tensor)
        return self._index[key]

    def _operand(self, tensor: Tensor) -> Operand:
        index = self._storage(tensor, Taint.STORED, stored=True)
        storage = self.trace.storages[index]
        strided = tensor.layout == torch.strided
        wanted = self._values
        if not isinstance(wanted, bool):
            wanted = len(self.trace.nodes) in wanted
        if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            what = f"a tensor of {type(tensor).__name__} computes by operations of its own"
            self.trace.opaque = self.trace.opaque or what
        value = tensor.detach().clone() if wanted else None
        return Operand(
            index,
            tuple(tensor.shape),
            tuple(tensor.stride()) if strided else (),
            int(tensor.storage_offset()) if strided else 0,
            tensor.dtype,
            storage.taint,
            storage.stored,
            storage.writers,
            tensor,
            value,
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.busy = True
        try:
            if (parts := in_parts(self, func, args, kwargs or {})) is not NotImplemented:
                return parts
            return self._record(func, args, kwargs or {})
        finally:
            self.busy = False

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func is torch.ops.aten.fill_.Tensor and self._number(args[1]):
            # `x[0] = 1` in torch 2.6, which makes a tensor of the number first.
            func, args = torch.ops.aten.fill_.Scalar, (args[0], args[1].item())
        name, specs = _signature(func)
        if func._schema.name in SAME:
            return func(*args, **kwargs)
        if "::" in name:
            self.trace.opaque = self.trace.opaque or f"{name} is no operation of torch"
        arguments: dict[str, Any] = {}
        inputs: list[Operand] = []
        writes: list[Operand] = []
        for position, spec in enumerate(specs):
            if position < len(args):
                given = args[position]
            elif spec.name in kwargs:
                given = kwargs[spec.name]
            else:
                given = spec.default
            arguments[spec.name] = value = self._convert(given, func)
            tensors = [item for item in flat(value) if isinstance(item, Operand)]
            if spec.written:
                writes += tensors
            if spec.read:
                inputs += tensors
        number = len(self.trace.nodes)
        result = self._changes.call(number, func, args, kwargs)
        outputs = [item for item in flat(result) if isinstance(item, Tensor)]
        read = {operand.storage for operand in inputs}
        view = not writes and any(self._index.get(address(out)) in read for out in outputs)
        random = torch.Tag.nondeterministic_seeded in func.tags
        node = Node(
            number,
            name,
            self._path(),
            arguments,
            inputs,
            [],
            view,
            writes,
            random,
            torch.Tag.pointwise in func.tags,
        )
        if not view:
            self._write(node, outputs)
        node.outputs = [self._operand(tensor) for tensor in outputs]
        self.trace.nodes.append(node)
        return result

    def _number(self, tensor: Tensor) -> bool:
        """A number that the code spells, of which torch made a tensor in this forward."""
        lifts = (node for node in self.trace.nodes if node.name == "lift_fresh")
        made = {operand.storage for node in lifts for operand in node.outputs}
        return tensor.dim() == 0 and self._index.get(address(tensor)) in made

    def _write(self, node: Node, outputs: list[Tensor]) -> None:
        taint = Taint.RANDOM if node.random else Taint.NONE
        for operand in node.inputs:
            taint |= operand.taint
        for operand in node.writes:
            storage = self.trace.storages[operand.storage]
            whole = operand.tensor.numel() * operand.tensor.element_size()
            if node.name in _OVERWRITES and whole == _size(operand.tensor):
                storage.taint, storage.stored, storage.writers = taint, False, frozenset()
            storage.taint |= taint
            storage.writers |= {node.number}
        kept = node.name in _FILES
        for tensor in outputs:
            if address(tensor) not in self._index:
                index = self._storage(tensor, taint | Taint.STORED if kept else taint, stored=kept)
                self.trace.storages[index].writers = frozenset({node.number})

    def _convert(self, value: Any, func: Any) -> Any:
        if isinstance(value, Tensor):
            return self._operand(value)
        if isinstance(value, (list, tuple)):
            return [self._convert(item, func) for item in value]
        if isinstance(value, torch.ScriptObject) and not str(func).startswith("profiler"):
            what = f"{func} takes an object whose content cannot be counted"
            self.trace.opaque = self.trace.opaque or what
        return value

    def _path(self) -> str:
        return self._names.get(id(self._modules[-1]), "") if self._modules else ""


class Escapes(TorchFunctionMode):
    """Notes values depending on the image that leave torch other than as one number."""

    _WAYS = frozenset(
        {"numpy", "tolist", "__array__", "data_ptr", "__dlpack__", "untyped_storage", "storage"}
    )

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        way = getattr(func, "__name__", "")
        if way in self._WAYS and not self._tracer.busy and args and isinstance(args[0], Tensor):
            self._tracer.busy = True
            try:
                if Taint.IMAGE in self._tracer.taint(args[0]):
                    self._tracer.trace.escaped = self._tracer.trace.escaped or way
            finally:
                self._tracer.busy = False
        return func(*args, **(kwargs or {}))


class _Argument(NamedTuple):
    name: str
    default: Any
    written: bool
    read: bool


@cache  # torch builds the schema's arguments anew at every look
def _signature(func: Any) -> tuple[str, tuple[_Argument, ...]]:
    """Name and arguments of an operation; one that is not torch's keeps its namespace."""
    space, name = func._schema.name.split("::")
    vision = name.removeprefix("_").removesuffix("_backward") in _VISION
    if func._schema.name in _OPERATIONS or (space == "torchvision" and vision):
        name = _ALIASES.get(name, name)
    else:
        name = func._schema.name
    shape_alone = name.startswith("new_") or name.endswith("_like")  # and type
    arguments = []
    for spec in func._schema.arguments:
        written = spec.alias_info is not None and spec.alias_info.is_write
        overwritten = written and (spec.kwarg_only or name in _OVERWRITES)
        read = not overwritten and not shape_alone
        arguments.append(_Argument(spec.name, spec.default_value, written, read))
    return name, tuple(arguments)


def _replaced_kernels() -> str:
    """An operation of torch that was given another kernel, or ""."""
    new = torch.library._impls - _KERNELS if len(torch.library._impls) > len(_KERNELS) else ()
    kernels = [entry for entry in new if entry.startswith("aten/") and entry.endswith(_COMPUTES)]
    ours = sorted(kernels)  # others are what torch itself adds later, such as for vmap
    return ours[0].split("/")[1] if ours else ""


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() if tensor.layout == torch.strided else -1
