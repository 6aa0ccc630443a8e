"""Runs a source in a kernel of this interpreter and writes the notebook with its outputs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from mnist_models.atomic import write_atomically
from mnist_models.notebooks import FOLDER, QUICK, CellError, NotebookError
from mnist_models.notebooks.colab import regenerate
from mnist_models.notebooks.pair import (
    Source,
    as_bytes,
    assemble,
    code_outputs,
    output_path,
    read_source,
    shown,
)
from mnist_models.notebooks.stale import LARGEST, output_faults
from mnist_models.record import Record

_QUIET = "--IPKernelApp.log_level=40"  # errors alone, beside the progress bar
# Seconds: a signal that comes just before a wait begins is answered only when that ends.
_LOOK = 0.2
_PACKAGE = Path(__file__).resolve().parent.parent


class _ThisInterpreter(AsyncKernelManager):
    """A kernel of the interpreter that runs this, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", _QUIET]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def execute(
    root: Path,
    name: str,
    records: Mapping[str, Sequence[Record]],
    *,
    data_root: Path | None = None,
    listener: Callable[[], None] = lambda: None,
) -> Path:
    """Run all cells of a notebook's source, in full, and write the notebook with its outputs.

    Args:
        root: the repository; the working directory of the cells is its folder of notebooks.
        name: of the notebook.
        records: those published, whose digests go into the notebook.
        data_root: the folder that holds MNIST; None looks for it as `data.load` does.
        listener: told after every code cell.

    Returns:
        the file written.

    Raises:
        CellError: a cell raised; nothing is written.
        NotebookError: the source is damaged, the kernel died, or the outputs may not be
            published; nothing is written.
        ProjectError: pyproject.toml names no repository.
    """
    regenerate(root, name)
    source = read_source(root, name)
    empty: list[list[Any]] = [[] for cell in source.cells if cell.kind == "code"]
    notebook = assemble(source, empty, {})
    _run(root, source, notebook, data_root, listener)
    outputs = [[_plain(output) for output in found] for found in code_outputs(notebook)]
    made = assemble(source, outputs, shown(source, records))
    content = as_bytes(made)
    for number, reason in output_faults(made):
        line = "" if number is None else f":{source.cells[number - 1].line}"
        raise NotebookError(f"{FOLDER}/{name}.py{line}: {reason}; change what the cell shows")
    if len(content) > LARGEST:
        raise NotebookError(
            f"{FOLDER}/{name}.py: its outputs make {len(content):,} bytes, more than {LARGEST:,}; "
            "show fewer or smaller figures"
        )
    write_atomically(output_path(root, name), content)
    return output_path(root, name)


def _run(
    root: Path,
    source: Source,
    notebook: nbformat.NotebookNode,
    data_root: Path | None,
    listener: Callable[[], None],
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != QUICK}
    environment["PYTHONPATH"] = str(_PACKAGE.parent)
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else the kernel warns on stderr
    if data_root is not None:
        environment["MNIST_ROOT"] = str(data_root.resolve())
    client = NotebookClient(
        notebook,
        timeout=None,
        coalesce_streams=True,  # else its chunks differ from run to run
        kernel_manager_class=_ThisInterpreter,
        resources={"metadata": {"path": str(root / FOLDER)}},
        on_cell_executed=lambda **_: listener(),
    )
    try:
        _stoppable(client, environment)
    except CellExecutionError as error:
        number = next(
            number
            for number, cell in enumerate(notebook.cells)
            if any(output.output_type == "error" for output in cell.get("outputs", ()))
        )
        cause = f"{error.ename}: {error.evalue}".strip().split("\n")[0]
        raise CellError(
            f"{FOLDER}/{source.name}.py:{source.cells[number].line}: the cell raised {cause}"
        ) from error
    except DeadKernelError as error:
        raise NotebookError(
            f"{FOLDER}/{source.name}.py: the kernel died; is there memory enough?"
        ) from error


def _stoppable(client: NotebookClient, environment: Mapping[str, str]) -> None:
    """Run all cells; what ends this thread, such as Ctrl-C, first ends them and their kernel.

    In a thread of their own: in that of the signals nbclient would take SIGINT and SIGTERM for
    itself, and would answer them with an error of its own instead of ending.
    """
    loop = asyncio.new_event_loop()
    running = loop.create_task(_in_a_kernel(client, environment))
    with ThreadPoolExecutor(1) as thread:
        try:
            ended = thread.submit(_turn, loop, running)
            while not wait([ended], _LOOK).done:
                pass
            ended.result()
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(RuntimeError):  # closed: it has just come to its end
                client.shutdown_kernel = "immediate"  # asked to end, it would log what it was at
                loop.call_soon_threadsafe(running.cancel)
            raise


def _turn(loop: asyncio.AbstractEventLoop, running: asyncio.Task[None]) -> None:
    async def awaited() -> None:
        await running

    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it ends what nbclient leaves
        runner.run(awaited())


async def _in_a_kernel(client: NotebookClient, environment: Mapping[str, str]) -> None:
    try:
        await client.async_execute(env=environment)
    finally:  # a kernel that was still starting is none that nbclient ends
        if client.km is not None and await ensure_async(client.km.is_alive()):
            await ensure_async(client.km.shutdown_kernel(now=True))


def _plain(output: Any) -> Any:
    """An output without what differs from run to run."""
    output = nbformat.from_dict(output)
    output.pop("execution_count", None)
    if output.output_type == "execute_result":  # shown alike, and carries no count
        output.output_type = "display_data"
    return output
