"""The command line as a user meets it: what it prints, its exit status, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_models.cli import main, parser, timing
from mnist_models.cli.options import load_data
from mnist_models.data import Dataset, Split
from mnist_models.models import EXPERIMENTS
from mnist_models.record import FILE_NAME, find_records, load_record

from .test_record import edit

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = ["list", "summary", "check", "train", "evaluate", "verify", "bench", "report", "sweep"]
COMMANDS += ["publish"]
CARD_CHECKS = ["output-shape", "parameters", "batch-norm", "dropout", "global-average-pooling"]
CARD_CHECKS += ["receptive-field", "epochs", "accuracy", "consistency", "test-set"]


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, which saves the seconds that importing torch takes."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse's own errors
            status = int(error.code or 0)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        assert signal.getsignal(signal.SIGTERM) == before
        return Done(status, captured.out, captured.err)

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.status == 0
    example = re.search(r"example: python -m\s+mnist_models\s+(.+)", done.out, re.DOTALL)
    assert example is not None
    arguments = example.group(1).split()
    assert arguments[0] == name
    parser().parse_args(arguments)  # the example is one that parses
    assert "--json" in done.out


def test_help_lists_the_commands(command: Command) -> None:
    done = command("--help")
    assert all(name in done.out for name in COMMANDS)
    assert command().status == 2
    assert command("trian").status == 2


def test_list(command: Command) -> None:
    rows = {row["experiment"]: row for row in command("list", "--json").json}
    assert list(rows) == list(EXPERIMENTS)
    assert rows["era-v3"]["parameters"] == 19_866
    text = command("list").out
    assert all(name in text for name in EXPERIMENTS)
    assert f"{rows['frontier-8k']['parameters']:,}" in text


@pytest.fixture(scope="module")
def digits_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real run of two epochs on the digits, made by the real command."""
    out = tmp_path_factory.mktemp("runs")
    arguments = ["train", "steps-3", "--dataset", "digits", "--epochs", "2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "mnist_models", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=REPOSITORY,
    )
    (out / "stdout").write_text(done.stdout)
    (out / "stderr").write_text(done.stderr)
    return out


@pytest.fixture
def run(digits_runs: Path, tmp_path: Path) -> Path:
    """A copy of that run's folder of records, to be damaged at will."""
    return Path(shutil.copytree(digits_runs, tmp_path / "runs"))


DIGITS = ["--dataset", "digits", "--epochs", "1"]
FOLDER = Path("digits-test") / "steps-3" / "seed-0"


def test_train_shows_epochs_checks_and_the_record(digits_runs: Path) -> None:
    out, err = ((digits_runs / name).read_text() for name in ("stdout", "stderr"))
    assert re.search(r"epoch  1/2  lr 0.01 -> 0.01  train loss \d\.\d{4} +\d+\.\d\d %", out)
    assert re.search(r"epoch  2/2 .* test loss", out)
    assert all(name in out for name in CARD_CHECKS)
    assert "FAIL: test-set" in out
    assert f"record: {digits_runs / FOLDER / FILE_NAME}" in out
    assert "steps-3 seed 0: 100%" in err  # the progress bar
    assert err.count("WARNING: these images are scikit-learn's digits") == 2
    assert err.startswith("!!!!")  # that digits stand in is said first and last
    assert err.rstrip().endswith("!!!!")
    record = load_record(digits_runs / FOLDER)
    assert (record.data.name, record.seed, len(record.epochs)) == ("digits", 0, 2)


def test_train_takes_so_many_threads_and_says_when_one_is_better(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("train", "steps-3", "--dataset", "digits", "--epochs", 1, "--out", tmp_path)
    busy = "this machine is busy"
    monkeypatch.setattr(os, "getloadavg", lambda: (float(os.cpu_count() or 1), 0.0, 0.0))
    try:
        assert busy not in command(*short, "--threads", 2).err  # said by nobody who chose
        assert load_record(tmp_path / FOLDER).provenance.threads == 2
        assert f"{busy} (load " in command(*short, "--force").err
        monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.0, 0.0))
        assert busy not in command(*short, "--force").err
    finally:
        torch.set_num_threads(1)


def test_train_skips_the_same_run_and_refuses_another(command: Command, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    options = ["train", "steps-3", "--dataset", "digits", "--out", run]
    done = command(*options, "--epochs", 2, "--json")
    assert done.status == 0
    assert "holds this very run already" in done.err
    assert done.json["final"]["epoch"] == 2
    done = command(*options, "--epochs", 3)
    assert done.status == 2
    assert "another run: recipe.epochs is 2, expected 3. train --force" in done.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    done = command(*options, "--epochs", 1, "--force", "--json")
    assert (done.status, done.json["final"]["epoch"]) == (0, 1)


def test_train_json_has_every_check_of_the_card(command: Command, run: Path) -> None:
    done = command("train", "steps-3", "--dataset", "digits", "--epochs", 2, "--out", run, "--json")
    assert [check["name"] for check in done.json["checks"]] == CARD_CHECKS
    verdicts = {check["name"]: check["passed"] for check in done.json["checks"]}
    assert verdicts["parameters"] is True
    assert verdicts["dropout"] is False
    assert verdicts["accuracy"] is None  # not measured on MNIST
    assert verdicts["test-set"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "steps-9"], "no experiment 'steps-9'"),
        (["train", "--seed", "-1"], "expected a whole number from 0"),
        (["train", "--epochs", "0"], "expected a whole number from 1"),
        (["train", "--epochs", "many"], "expected a whole number from 1"),
        (["train", "--threads", "100000"], "'100000': expected a whole number from 1 to 1,024"),
        (["sweep", "steps-3", "--threads", "1025"], "expected a whole number from 1 to 1,024"),
        (["train", "--device", "tpu"], "invalid choice"),
        (["train", "--dataset", "mnist", "--data-root", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "no record"),
        (["verify", "--records", "nowhere", "--data-root", "nowhere"], "nowhere"),
        (["check", "nowhere.py:Net"], "there is no file 'nowhere.py'"),
        (["check", "steps-1", "--assignment", "crad"], "no assignment 'crad'"),
        (["check", "steps-1", "--assignment", "crad.toml"], "cannot read the assignment"),
        (["check", "steps-1", "--time-limit", "0"], "expected a number above 0"),
        (["summary", "nowhere.py:Net"], "there is no file 'nowhere.py'"),
        (["bench", "--steps", "0"], "expected a whole number from 1"),
        (["train", "--data-root", "~nouser/x"], "nouser"),
        (["check", "steps-1", "--badges", "/proc/x"], "/proc/x cannot be written: no file or"),
        (["check", "steps-1", "--badges", __file__], "a file is there where a folder is expected"),
        (["check", "steps-1", "--assignment", "no.toml"], "no.toml: there is no such file"),
        (["evaluate", __file__], f"{__file__} is no folder; expected one such as train leaves"),
        (["train", *DIGITS, "--out", "/proc/x"], "no file or folder can be made there; choose"),
        (["train", *DIGITS, "--out", __file__], "a part of the path is a file where a folder is"),
        (["sweep", "steps-3", *DIGITS, "--out", "/proc/x"], "/proc/x cannot be written: no file"),
        (["sweep", "steps-3", *DIGITS, "--log", "/dev/null"], "/dev/null cannot be written: it is"),
        (["report", "--root", "/proc/x"], "README.md: there is no such file or folder; choose"),
    ],
)
def test_bad_input_is_status_2(command: Command, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.status == 2
    assert message in done.err
    assert "Errno" not in done.err
    assert done.err.count("error: ") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_what_is_printed_is_said(more: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mnist_models", "list", *more],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    said = "error: what is printed cannot be written: the disk is full; make room there, or print"
    assert done.stderr == f"{said} elsewhere\n"


def test_no_cuda_is_said(command: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = command("train", "--device", "cuda", "--dataset", "digits", "--out", run)
    assert done.status == 2
    assert "finds no CUDA device here" in done.err


def test_evaluate(command: Command, run: Path) -> None:
    done = command("evaluate", run / FOLDER, "--json")
    assert done.status == 0
    assert [epoch["epoch"] for epoch in done.json["epochs"]] == [1, 2]
    assert [check["name"] for check in done.json["checks"]] == CARD_CHECKS
    assert "score as recorded" in command("evaluate", run / FOLDER / FILE_NAME).out


def test_rules_for_a_record_come_from_toml_too(command: Command, run: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('epochs = "<= 1"\nparameters = "< 8000"\n')
    train = ("train", "steps-3", "--epochs", 2, "--dataset", "digits", "--out", run)
    for start in (("evaluate", run / FOLDER), train):
        checks = command(*start, "--assignment", rules, "--json").json["checks"]
        found = {check["name"]: check["passed"] for check in checks}
        assert (found["parameters"], found["epochs"]) == (True, False)
        assert "accuracy" not in found
        done = command(*start, "--assignment", tmp_path / "none.toml")
        assert done.status == 2
        assert "none.toml" in done.err


def test_val_scores_the_slice_and_evaluate_scores_it_again(
    command: Command, tmp_path: Path
) -> None:
    options = ["--dataset", "digits", "--val", "--epochs", 1, "--out", tmp_path]
    done = command("train", "steps-3", *options, "--json")
    assert done.status == 0
    assert done.json["split"] == "validation"
    folder = tmp_path / "digits-validation" / "steps-3" / "seed-0"
    record = load_record(folder)
    assert record.data.train_images + record.data.held_out_images == 1_437  # no test image
    assert command("evaluate", folder).status == 0


def test_evaluate_refuses_what_it_cannot_believe(command: Command, run: Path) -> None:
    first, last = (run / FOLDER / f"epoch-0{epoch}.safetensors" for epoch in (1, 2))
    shutil.copy(first, last)
    done = command("evaluate", run / FOLDER)
    assert done.status == 1
    assert "not the file that the record names" in done.out
    edit(run / FOLDER, lambda table: table.update(seed=5), sign=False)
    done = command("evaluate", run / FOLDER, "--json")
    assert done.status == 2
    assert done.json["passed"] is None
    assert "edited" in done.json["cause"]


def test_check(command: Command, tmp_path: Path) -> None:
    done = command("check", "frontier-8k")
    assert done.status == 0, done.out + done.err
    assert "frontier-8k keeps this project's card: all 6 checks pass" in done.out
    done = command("check", "steps-3", "--json")
    assert done.status == 1
    assert done.json["passed"] is False
    assert done.json["measurements"]["parameters"] == 7_624
    assert set(done.json) >= {"target", "assignment", "passed", "checks", "measurements"}
    path = tmp_path / "mine.py"
    path.write_text("print('::error::not mine')\nraise SystemExit(0)\n")
    done = command("check", f"{path}:Net", "--json")
    assert done.status == 2
    assert done.json["passed"] is None
    assert "  | ::error::not mine" in done.err  # behind a prefix: no CI runner obeys it


@pytest.mark.parametrize("mode", ["", "if self.training: "])
def test_a_forward_that_crashes_is_told_once(command: Command, tmp_path: Path, mode: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self): super().__init__(784, 10)\n"
        "    def forward(self, x):\n"
        f"        {mode}x = x.flatten(1)[:, :99]\n"
        "        return super().forward(x.flatten(1))\n"
    )
    target = tmp_path / "mine.py:Net"
    text = " ".join(command("check", target).out.split())
    assert text.count("cannot be multiplied") == 1
    assert text.count("nothing was measured, see ") >= 2
    checks = command("check", target, "--json").json["checks"]
    crashed = [check for check in checks if "cannot be multiplied" in check["cause"]]
    assert len(crashed) == text.count("nothing was measured, see ") + 1
    assert all(check["help"] for check in crashed)


def test_check_takes_an_assignment_from_toml(command: Command, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('parameters = "< 7000"\n')
    done = command("check", "steps-3", "--assignment", rules)
    assert done.status == 1
    assert "does not keep rules: parameters" in done.out
    rules.write_text('title = "this project\'s card"\nparameters = "< 80000"\n')
    done = command("check", "steps-3", "--assignment", rules)
    assert done.status == 2
    assert "is that of an assignment known here; choose another" in done.err


def test_summary(command: Command) -> None:
    done = command("summary", "steps-6")
    assert done.status == 0
    assert "Total params: 7,624" in done.out
    assert "14 pixels at the input of the global pooling, 28 pixels at the output" in done.out
    found = command("summary", "steps-6", "--json").json
    assert found["receptive_field"]["before_pooling"] == 14
    assert found["layers"][0]["operation"] == "conv2d"


def test_verify_needs_records_before_it_needs_mnist(command: Command, tmp_path: Path) -> None:
    done = command("verify", "--records", tmp_path, "--data-root", tmp_path / "nowhere")
    assert done.status == 2
    assert "no record below" in done.err


def test_verify_reads_published_records(command: Command, mnist_root: Path, tmp_path: Path) -> None:
    """One sound record passes; with a byte of its weights changed it does not."""
    published = find_records(REPOSITORY / "records")[0]
    folder = tmp_path / Path(*published.parts[-3:])
    shutil.copytree(published, folder)
    options = ["verify", "--records", tmp_path, "--data-root", mnist_root]
    done = command(*options, "--json")
    assert done.status == 0, done.out
    assert done.json["passed"] is True
    assert [len(record["epochs"]) for record in done.json["records"]] == [3]
    path = folder / load_record(folder).weights[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = command(*options)
    assert done.status == 1
    assert f"FAIL: {path} is not the file that the record names" in done.out
    assert "restore those files with git, or train those seeds again" in done.out


def test_verify_is_short_where_runs_are_only_trials(
    command: Command, run: Path, mnist_root: Path
) -> None:
    """One on other images, and one by another recipe whose weights are damaged too."""
    other = run / "mnist-test" / "attempt-3" / "seed-0"
    shutil.copytree(REPOSITORY / "records" / "mnist-test" / "attempt-3" / "seed-0", other)
    edit(other, lambda table: table["recipe"].update(label_smoothing=0.25))
    for path in other.glob("*.safetensors"):
        path.unlink()
    options = ("verify", "--records", run, "--data-root", mnist_root, "--workers", 1)
    problems = [each["problems"] for each in command(*options, "--json").json["records"]]
    assert [len(each) for each in problems] == [2, 4]
    done = command(*options)
    assert done.status == 1
    failed = [line for line in done.out.splitlines() if line.startswith("FAIL: ")]
    assert [line.removesuffix(" problems, which --verbose lists") for line in failed] == [
        f"FAIL: {run / FOLDER}: a trial, scored on digits (test): 2",
        f"FAIL: {other}: a trial, label_smoothing is 0.25, expected 0.0: 4",
    ]
    assert "score it with evaluate" in done.out
    assert "restore those files with git" not in done.out
    out = command(*options, "--verbose").out
    assert all(f"FAIL: {problem}" in out for problem in (*problems[0], *problems[1]))


def test_bench(command: Command, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*arguments: Any, validation: bool) -> Dataset:
        data = load_data(*arguments, validation=validation)
        few = Split(data.held_out.images[:100], data.held_out.labels[:100])
        return replace(data, held_out=few)

    monkeypatch.setattr(timing, "load_data", cut)  # to score all images takes half a minute
    done = command("bench", "--rounds", 1, "--steps", 1, "--data-root", mnist_root, "--json")
    ratios = done.json["ratios"]  # one step decides nothing: that it ran is what is tested
    limited = {name for name, ratio in ratios.items() if ratio["limit"] != "-"}
    assert limited == {"steps-6: notebook / this loop", "steps-6: this loop / compute floor"}
    assert done.status == any(ratio["passed"] is False for ratio in ratios.values())


def test_bench_refuses_what_would_not_be_fair(command: Command, mnist_root: Path) -> None:
    done = command("bench", "--rounds", 9, "--steps", 1_000, "--data-root", mnist_root)
    assert done.status == 2
    assert "do not fit into an epoch of 938 steps" in done.err


@pytest.mark.parametrize("name", ["random", "tqdm"])
def test_files_where_the_command_is_given_are_not_taken_for_others(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('this file shadows another')")
    done = subprocess.run(
        [sys.executable, "-m", "mnist_models", "list", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "frontier-8k" in done.stdout


def test_a_reader_that_leaves_gets_no_traceback_and_no_success() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mnist_models", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert errors == b""


def test_a_missing_package_is_named_with_the_set_up() -> None:
    code = "import sys; sys.modules['anybadge'] = None; import mnist_models.__main__ as m; m.run()"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("m.run()", "sys.exit(m.run())")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: anybadge is not installed for ")
    assert "pip install -r requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr
