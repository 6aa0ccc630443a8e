"""Where commands compute: options for worker processes, and the places they name."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import Executor

import torch

from mnist_models.cli.options import MOST_THREADS, UsageError, device_of, whole
from mnist_models.data import Device
from mnist_models.plural import counted
from mnist_models.stacked import SIDE_BY_SIDE
from mnist_models.workers import Place, dask, local, places

_PORT = re.compile(r":\d+/?$")  # without one Dask waits for what cannot come


def busy() -> str | None:
    """What others compute here, in words, if it leaves no core idle; None where it is unknown."""
    if not hasattr(os, "getloadavg"):
        return None
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"this machine is busy (load {load:.1f} on {counted(cores, 'core')})"
        if load >= cores
        else None
    )


def add_workers(command: argparse.ArgumentParser) -> None:
    """Add ``--workers``."""
    command.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="processes, each on cores of its own, or on a GPU, which more than there are GPUs "
        "share (default: all that there are cores or GPUs for)",
    )


def add_where(command: argparse.ArgumentParser) -> None:
    """Add ``--workers``, ``--threads``, ``--stacked`` and ``--dask``."""
    add_workers(command)
    command.add_argument(
        "--threads",
        type=whole(1, MOST_THREADS),
        default=1,
        metavar="N",
        help="of each worker (default: 1: small networks gain little from a second core)",
    )
    command.add_argument(
        "--stacked",
        type=whole(1),
        metavar="K",
        help="up to K seeds of an experiment side by side in one network on each worker (default: "
        f"{SIDE_BY_SIDE['cpu']}, on a GPU {SIDE_BY_SIDE['cuda']}); an experiment that cannot be "
        "stacked trains one by one",
    )
    command.add_argument(
        "--dask",
        type=_address,
        metavar="ADDRESS",
        help="run on a Dask cluster instead: tcp://scheduler:8786; its workers have --nthreads 1, "
        "this package, and the data set (at --data-root, or at their own MNIST_ROOT)",
    )


def _address(text: str) -> str:
    if _PORT.search(text) is None:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected the address of a scheduler, such as tcp://10.0.0.1:8786"
        )
    return text


def side_by_side(device: Device) -> int:
    """How many seeds, where nobody said it; the workers of a cluster may have any device."""
    return SIDE_BY_SIDE["cuda" if device == "cuda" else "cpu"]


def workers_of(options: argparse.Namespace) -> tuple[list[Place], Device]:
    """Where the local workers compute, none on a cluster; and the device of all workers.

    Raises:
        UsageError, WorkersError: options that do not go together, or no room.
    """
    if options.dask and options.workers:
        raise UsageError("--workers belongs to this machine; with --dask the cluster has its own")
    if options.dask:
        return [], options.device  # the workers of a cluster choose for themselves
    return local_workers(options, options.threads)


def local_workers(options: argparse.Namespace, threads: int) -> tuple[list[Place], Device]:
    """Where workers of this machine compute, each with so many threads, and on which device.

    Raises:
        OSError, WorkersError: cuda was asked for and there is none, or there is no room.
    """
    device: Device = "cuda" if device_of(options).type == "cuda" else "cpu"
    return places(options.workers, threads, _gpus(device)), device


def executor_of(
    options: argparse.Namespace, where: Sequence[Place]
) -> contextlib.AbstractContextManager[Executor]:
    """The cluster that the options name, or local workers at these places."""
    return dask(options.dask) if options.dask else local(where)


def _gpus(device: str) -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; none where the CPU computes."""
    if device != "cuda":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
