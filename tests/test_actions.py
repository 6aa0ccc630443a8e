"""What GitHub Actions reads, and what a stranger's model cannot write into it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mnist_models.checks.result import CheckResult
from mnist_models.cli import actions, main
from mnist_models.cli.verdicts import check_badge

from .test_record import edit

REPOSITORY = Path(__file__).resolve().parent.parent

PASSING = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=10):
        def block(i, o, *more):
            return (nn.Conv2d(i, o, 3), nn.BatchNorm2d(o), nn.ReLU(), *more)
        super().__init__(
            *block(1, width, nn.MaxPool2d(2)), *block(width, width), *block(width, width),
            *block(width, width), *block(width, width, nn.Dropout(0.05)),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10),
        )

def wide():
    return Net(60)
"""


@dataclass(frozen=True)
class Runner:
    """The files that a runner gives to a step, read back as it reads them."""

    folder: Path

    @property
    def summary(self) -> str:
        return self.read("summary")

    @property
    def outputs(self) -> dict[str, str]:
        found, lines = {}, iter(self.read("output").splitlines())
        for line in lines:
            opened = re.fullmatch(r"([\w-]+)<<(\S+)", line)
            assert opened, line
            name, end = opened.groups()
            value = []
            while (line := next(lines)) != end:
                value.append(line)
            found[name] = "\n".join(value)
        return found

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runner"
    folder.mkdir()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("GITHUB_OUTPUT", str(folder / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary"))
    return Runner(folder)


Check = Callable[..., int]


def commands(text: str) -> list[str]:
    """The lines that a runner takes for commands, as its sources tell them."""
    return [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line]


def test_annotations_are_escaped(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    file = runner.folder.parent / "a,b:c.py"
    actions.annotate("100 %\nnext", title="a: b, c", file=file, line=3)
    said = capsys.readouterr()
    where = "file=a%2Cb%3Ac.py,line=3,title=a%3A b%2C c"
    assert said.err == f"::error {where}::100 %25%0Anext\n"
    assert said.out == ""  # where --json promises JSON alone
    actions.annotate("x", file="/elsewhere/x.py")
    assert capsys.readouterr().err == "::error file=/elsewhere/x.py::x\n"


def test_without_a_runner_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    actions.annotate("x")
    actions.summarise("x")
    actions.write_outputs({"x": "y"})
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_outputs_hold_any_text(runner: Runner) -> None:
    text = "one\npassed<<x\ntrue\nx\nname=value"
    actions.write_outputs({"passed": "false", "json": text})
    actions.write_outputs({"more": ""})
    assert runner.outputs == {"passed": "false", "json": text, "more": ""}
    with pytest.raises(ValueError, match="cannot be an output"):
        actions.write_outputs({"a\nb": "x"})


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "</td><script>",
        "`x`",
        "**x**",
        "[a](b)",
        "a\n\n# b",
        "www.x.org",
        "https://x",
        "\\|",
    ],
)
def test_a_cell_shows_its_text_and_nothing_else(text: str) -> None:
    lines = actions.markdown_table(("a", "b"), [(text, "end")]).splitlines()
    assert len(lines) == 3
    assert lines[2].count("|") == 3
    assert lines[2].endswith(" | end |")
    assert not re.search(r"[<>`*\[\]\\]|www\.|://", lines[2])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("a\n \t::set-output name=passed::true", "a\n \t: :set-output name=passed::true"),
        ("  | ##[add-mask]x", "  | ## [add-mask]x"),
        ("\u2003::stop-commands::x", "\u2003: :stop-commands::x"),
        ("std::vector, # [1]", "std::vector, # [1]"),
    ],
)
def test_no_line_of_the_log_is_a_command(text: str, shown: str) -> None:
    assert actions.disarmed(text) == shown
    assert commands(actions.disarmed(text)) == []


def model(text: str) -> Path:
    path = Path("model.py")
    path.write_text(text)
    return path


def test_check_gives_summary_outputs_and_badges(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    model(PASSING)
    assert main(["check", "model.py:Net", "--badges", "made/badges"]) == 0
    assert runner.outputs["passed"] == "true"
    assert (runner.outputs["parameters"], runner.outputs["receptive-field"]) == ("3950", "20")
    assert len(runner.outputs["json"].splitlines()) == 1
    assert json.loads(runner.outputs["json"])["passed"] is True
    assert runner.summary.startswith("### model&#46;py&#58;Net keeps")
    assert "| pass | parameters | 3,950 | &#60; 8,000 | parameters |" in runner.summary
    table = json.loads(Path("made/badges/parameters.json").read_text())
    assert (table["message"], table["color"]) == ("3,950 < 8,000", "2e7d32")
    assert {p.stem for p in Path("made/badges").glob("*.svg")} >= {"check", "dropout", "parameters"}
    for path in Path("made/badges").glob("*.svg"):
        ET.parse(path)
    said = capsys.readouterr()
    assert commands(said.err) == []
    listed = re.findall(r"^(.*): written$", said.out, flags=re.MULTILINE)
    assert sorted(listed) == sorted(map(str, Path("made/badges").iterdir()))
    assert main(["check", "model.py:Net", "--badges", "made/badges", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True  # nothing else


def test_a_failing_check_is_marked_where_the_network_is_defined(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    line = 1 + PASSING.splitlines().index("def wide():")
    model(PASSING)
    assert main(["check", "model.py:wide", "--badges", "badges"]) == 1
    assert runner.outputs["passed"] == "false"
    assert f"::error file=model.py,line={line},title=parameters::" in capsys.readouterr().err
    assert "| FAIL | parameters |" in runner.summary
    table = json.loads(Path("badges/parameters.json").read_text())
    assert table["message"].endswith(", not < 8,000")
    assert table["color"] == "c62828"
    assert json.loads(Path("badges/check.json").read_text())["message"] == "failing"


HOSTILE = """
import os, sys
LONG = "x" * 70
TEXT = "::error::forged " + LONG + " ::error::wrapped ##[add-mask]a | b </table>\\n\\npassed=true"
for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY", "ACTIONS_RUNTIME_TOKEN"):
    if name in os.environ:
        print("found", name)
print(TEXT)
print(TEXT, file=sys.stderr)
def Net():
    raise RuntimeError(TEXT)
"""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_stranger_forges_nothing(
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.setenv("ACTIONS_RUNTIME_TOKEN", "secret")
    monkeypatch.setenv("GITHUB_ENV", str(runner.folder / "env"))
    model(HOSTILE)
    assert main(["check", "model.py:Net", "--badges", "badges", *more]) == 2
    said = capsys.readouterr()
    assert "forged" in said.err
    assert "found" not in said.err
    ours = "::error file=model.py,line=10,title=check::could not be checked: "
    assert [line[: len(ours)] for line in commands(said.err)] == [ours]
    assert commands(said.out) == []
    if more:
        assert "##[add-mask]" in json.loads(said.out)["cause"]
    assert runner.outputs.keys() == {"passed", "parameters", "receptive-field", "json"}
    assert (runner.outputs["passed"], runner.outputs["parameters"]) == ("unknown", "")
    assert "<" not in runner.summary
    assert "| b" not in runner.summary
    assert json.loads(Path("badges/check.json").read_text())["message"] == "unknown"


FORGED = "t\n::error::forged\x1b[31m ##[error]"


def test_arguments_and_assignments_forge_no_line(
    runner: Runner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")  # so that no command in the log is ours
    model(PASSING)
    Path("a.toml").write_text(f"title = {json.dumps(FORGED)}\nparameters = '< 8000'\n")
    long = "x" * 5_000
    for arguments, status in (
        (["check", "model.py:Net", "--assignment", "a.toml"], 0),
        (["check", FORGED], 2),
        (["summary", f"{FORGED}.py:Net"], 2),
        (["evaluate", f"{FORGED}/{long}"], 2),
        (["check", "model.py:Net", "--assignment", long], 2),
    ):
        assert main(arguments) == status
        said = "".join(capsys.readouterr())
        assert "\x1b" not in said
        assert commands(said) == []
        assert max(map(len, said.splitlines())) < 1_100
    with pytest.raises(SystemExit):
        main(["list", FORGED])
    assert commands(capsys.readouterr().err) == []


def test_records_forge_no_line(
    runner: Runner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mnist_root: Path,
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    folder = runner.folder.parent / "seed-0"
    shutil.copytree(REPOSITORY / "records" / "mnist-test" / "attempt-3" / "seed-0", folder)
    edit(folder, lambda t: (t.update(experiment=FORGED), t["data"].update(name=FORGED)))
    for start in (["evaluate", str(folder)], ["verify", "--records", str(folder)]):
        main([*start, "--data-root", str(mnist_root)])
        said = capsys.readouterr()
        assert "forged" in said.out
        assert "\x1b" not in said.out
        assert commands(said.out) == []


def test_badges_of_checks_are_named_safely() -> None:
    result = CheckResult("../../x", True, "a", None, "", "")
    assert list(check_badge(result).files()) == ["------x.svg", "------x.json"]


def test_what_cannot_be_written_is_said(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.folder))
    assert main(["check", "nowhere.py:Net"]) == 2
    said = f"{runner.folder} cannot be written: a folder is there where a file is expected; choose"
    assert f"{said} another GITHUB_STEP_SUMMARY" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/full")
    assert main(["check", "nowhere.py:Net"]) == 2
    said = "/dev/full cannot be written: the disk is full; make room there, or choose another"
    assert f"{said} GITHUB_STEP_SUMMARY" in capsys.readouterr().err
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    model("x = 1")
    assert main(["check", "model.py:x", "--badges", "model.py/badges"]) == 2
    said = capsys.readouterr().err
    assert "error: model.py/badges cannot be written: a part of the path is a file" in said
    assert "::error title=error::" in said
