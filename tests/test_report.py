from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from mnist_models.badges import run_badge
from mnist_models.blocks import Dropout, GlobalAveragePool, convolution
from mnist_models.checks import measure
from mnist_models.cli import main
from mnist_models.figures.catalogue import OWN
from mnist_models.models import EXPERIMENTS, System
from mnist_models.project import slug
from mnist_models.record import FILE_NAME, Record, find_records
from mnist_models.report import ReportError, generate, published, stale
from mnist_models.report.markdown import render, shown, stale_line, table
from mnist_models.report.performance import performance
from mnist_models.report.readme import index
from mnist_models.report.reproduction import reproduction, rows, section, systems
from mnist_models.report.scale import SWEEPS, how_long, scale
from mnist_models.report.status import Requirement, requirements, status
from mnist_models.timings import Timings

from .endless import huge, pipe, within
from .test_checks_record import run
from .test_record import edit
from .test_timings import bench_of

REPOSITORY = Path(__file__).resolve().parent.parent
SLUG = slug(REPOSITORY)
GOOD = [9_000] * 12 + [9_945, 9_950, 9_960]
DIPPED = [9_000] * 12 + [9_939, 9_950, 9_950]


def records(name: str, *runs: Sequence[int]) -> dict[str, list[Record]]:
    """Records of seeds 0, 1, ... with these images correct, epoch by epoch."""
    group = [
        replace(run(list(correct)), experiment=name, seed=seed) for seed, correct in enumerate(runs)
    ]
    return {name: group}


def own(*runs: Sequence[int]) -> dict[str, Requirement]:
    return {row.name: row for row in requirements(records(OWN, *runs))}


def test_a_requirement_has_limit_value_and_verdict() -> None:
    found = own(GOOD, GOOD)
    assert len(found) == 8  # a row per requirement of the card
    assert [row.passed for row in found.values()] == [True] * 8
    parameters, network = found["parameters"], measure(EXPERIMENTS[OWN].build())
    count = f"{network.parameters:,}"
    assert (parameters.limit, parameters.measured) == ("< 8,000", f"{count} parameters")
    assert parameters.badge.text == f"parameters: {count} < 8,000 (pass)"
    assert found["receptive-field"].short == f"{network.receptive_field_before_pooling} >= 20"
    assert found["accuracy"].measured == "99.60 % ± 0.00, minimum 99.60 %, n = 2"
    assert found["accuracy"].short == "99.60 % ± 0.00, n = 2, each >= 99.40 %"
    assert found["consistency"].measured == "2 of 2 seeds"
    lines = status(list(found.values())).splitlines()
    assert len(lines) == 2 + 2 + 8
    assert lines[0].startswith("![tests of the last run](badges/tests.svg) ")
    assert f"![parameters: {count} < 8,000 (pass)](badges/parameters.svg)" in lines[4]


def test_one_bad_seed_turns_the_badge_red() -> None:
    found = own(GOOD, DIPPED, GOOD)
    assert found["consistency"].passed is False
    assert found["consistency"].badge.passed is False
    assert found["consistency"].measured == "2 of 3 seeds"
    assert found["accuracy"].passed is True
    found = own(GOOD, [9_990] * 14 + [9_939])
    assert found["accuracy"].passed is False
    assert own([*GOOD, 9_960])["epochs"].passed is False
    assert own([*GOOD, 9_960])["epochs"].short == "16 <= 15"


class Wasteful(nn.Sequential):
    """A network with more parameters than the card allows, none of which it uses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.unused = nn.Linear(200, 1)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 1, 28, 28) -> (B, 10)``."""
        logits: Tensor = self[0](images)
        return logits


def sound() -> list[nn.Module]:
    """The layers of a network that keeps the card, one after the other."""
    return [
        convolution(1, 8, padding=1),
        convolution(8, 12),
        nn.MaxPool2d(2),
        convolution(12, 12, padding=1),
        convolution(12, 14, padding=1),
        nn.MaxPool2d(2),
        convolution(14, 14, padding=1),
        convolution(14, 16, dropout=Dropout(0.02)),
        GlobalAveragePool(),
        nn.Linear(16, 10),
    ]


def broken(requirement: str) -> nn.Module:
    """A network that keeps the card but for one requirement."""
    layers = sound()
    if requirement == "parameters":
        return Wasteful(nn.Sequential(*layers))
    if requirement == "global-average-pooling":
        layers[-2] = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    if requirement == "receptive-field":
        layers[1:8] = [convolution(8, 16, dropout=Dropout(0.02))]
    kind = {"batch-norm": nn.BatchNorm2d, "dropout": nn.Dropout}.get(requirement, type(None))
    return nn.Sequential(*(without(layer, kind) for layer in layers))


def without(layer: nn.Module, kind: type) -> nn.Module:
    if not isinstance(layer, nn.Sequential):
        return layer
    return nn.Sequential(*(part for part in layer if not isinstance(part, kind)))


@pytest.mark.parametrize(
    "name", ["parameters", "batch-norm", "dropout", "global-average-pooling", "receptive-field"]
)
def test_a_broken_requirement_turns_its_own_badge_red(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(EXPERIMENTS[OWN], build=lambda: broken(name))
    monkeypatch.setitem(EXPERIMENTS, OWN, changed)
    found = own(GOOD)
    verdicts = {row.name: row.passed for row in found.values()}
    expected = {name} | ({"receptive-field"} if name == "global-average-pooling" else set())
    assert {row for row, passed in verdicts.items() if passed is not True} == expected
    assert found[name].passed is False
    assert "(fail)" in found[name].badge.svg()


def test_without_records_nothing_passes() -> None:
    found = [row.passed for row in requirements({})]
    assert found == [True] * 5 + [None] * 3
    assert [row.measured for row in requirements({})][-3:] == ["no record"] * 3


def line_of(name: str, *runs: Sequence[int]) -> str:
    text = reproduction(rows(records(name, *runs) if runs else {}))
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))


def test_reproduction_sets_claim_beside_measurement() -> None:
    last = line_of("steps-6", GOOD, DIPPED).split(" | ")
    assert last[1:4] == ["7,624", "14 / 28", "99.48 %"]
    assert last[4] == "99.55 % ± 0.07, minimum 99.50 %, n = 2"
    assert last[5] == "1 of 2"


def test_a_claim_is_judged_by_mean_less_deviation() -> None:
    assert "| reached |" in line_of("steps-6", [9_948], [9_948])
    assert "| reached by the one seed |" in line_of("steps-6", [9_948])
    assert "| not reached by the one seed |" in line_of("steps-6", [9_947])
    assert "| reached |" in line_of("steps-6", [9_955], [9_956])
    # The mean of 99.50 % lies above the claim of 99.48 %, less one deviation of 0.14 it does not.
    assert "not reached: mean less deviation is 99.36 %" in line_of("steps-6", [9_940], [9_960])


def test_claims_of_the_training_set_are_called_so() -> None:
    line = line_of("blocks-1", [9_930])
    assert "99.40 % of its training images" in line
    assert "never measured on test images" in line
    assert "lies below it" in line
    assert "lies above it" in line_of("blocks-1", [9_941])


def test_what_was_not_run_is_said_to_be() -> None:
    assert "| no record | no record | not measured yet |" in line_of("era-v3")
    assert "compare `steps-6`" in line_of("steps-6-constant", GOOD)


def test_an_ablation_is_compared_with_what_it_ablates() -> None:
    found = records("steps-6", [9_940], [9_950], [9_960])
    found |= records("steps-6-constant", [9_941], [9_952], [9_963])
    text = reproduction(rows(found))
    line = next(line for line in text.splitlines() if line.startswith("| `steps-6-constant` |"))
    assert "+0.02 points against `steps-6`, n = 3 pairs, 95 % interval -0.00 to +0.04" in line
    assert "p = 0.074" in line


def test_every_claim_says_why_it_does_not_hold() -> None:
    text = reproduction(rows({}))
    reasons = text.split("What does not hold up in the claims:")[1]
    for name, experiment in EXPERIMENTS.items():
        if experiment.claim:
            assert f"- `{name}`: {' '.join(experiment.claim.problems)}\n" in reasons


def test_a_claim_shows_what_its_chosen_epoch_is_worth() -> None:
    text = reproduction(rows(records("steps-6", [9_960, 9_940], [9_950, 9_950])))
    assert (
        "three things changed at once. Chosen by its test accuracy, the best epoch of the 2 runs, "
        "in the mean, here would be 99.55 %, 0.10 points above the last, and the best of them all "
        "99.60 %.\n" in text
    )
    text = reproduction(rows(records("steps-6", [9_960, 9_940])))
    assert "the best epoch of the run here would be 99.60 %, 0.20 points above the last.\n" in text
    text = reproduction(rows(records("steps-6", [9_940, 9_960], [9_940, 9_950])))
    assert "at once. Here no epoch of any of the 2 runs is better than the last, by" in text
    text = reproduction(rows(records("blocks-1", [9_960, 9_940])))  # claimed of training images
    assert "by its test accuracy" not in text


@pytest.mark.parametrize("system", systems(published=True), ids=lambda system: system.name)
def test_a_section_has_target_result_and_analysis_of_every_step(system: System) -> None:
    found = rows({}, system)
    text = section(system, found)
    for row in found:
        experiment = row.experiment
        assert f"- Target: {experiment.target}\n- Result: no record yet" in text
        assert f"- Analysis: {experiment.analysis}\n" in text
    assert all(f"- {finding}\n" in text for finding in system.findings)


def test_render_replaces_the_marked_blocks_alone() -> None:
    text = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n"
    done = render(text, {"x": "new\n"})
    assert done == "a\n<!-- generated: x -->\nnew\n<!-- end -->\nb\n"
    assert render(done, {"x": "new\n"}) == done
    for generated in ({}, {"y": ""}, {"x": "", "y": ""}):
        with pytest.raises(ReportError, match="found the blocks x; expected each of"):
            render(text, generated)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- generated: x  -->\n99.99 %\n<!-- end  -->\n",
        "<!--generated: x -->\n99.99 %\n",
        "<!-- END -->\n",
        "<div hidden>\n",
        '<div style="display:none">\n',
        "<details>\n",
    ],
)
def test_nothing_passes_for_a_generated_part_or_hides_it(text: str) -> None:
    block = "<!-- generated: x -->\n<!-- end -->\n"
    assert render(f"<b>a</b>\n{block}", {"x": ""})
    for whole in (text + block, block + text):
        with pytest.raises(ReportError, match=r"README\.md: '<.*; take it out"):
            render(whole, {"x": ""})


def test_stale_line() -> None:
    assert stale_line("a\nb\n", "a\nb\n") is None
    assert stale_line("a\nb\n", "a\nc\n") == 2
    assert stale_line("a\n", "a\nc\n") == 2
    assert stale_line("a\r\n", "a\n") == 1
    assert stale_line("a", "a\n") == 2


def test_a_table_keeps_its_columns() -> None:
    assert table(("a", "b"), [("x|y", "z")]).splitlines()[2] == "| x&#124;y | z |"
    assert table(("a", "b"), [("x\n| y", "<b>z < 3")]).splitlines()[2] == (
        "| x &#124; y | &lt;b>z < 3 |"
    )


FORGED = "cpu: ![x](http://e/x.png) [y](z) <b>&`*_~$\\ www.e.e a@e.e |\n# 9 \u202e@ (R)"


def test_what_others_wrote_is_shown_and_does_nothing() -> None:
    plain = "cpu: Some(R) CPU @ 2.20GHz, 1 thread; cuda: NVIDIA H200"
    assert shown(plain) == plain
    text = shown(FORGED)
    assert not re.search(r"[\\`*_\[\]<>~|!$\n\u202e]|://|www\.|\w@", text)
    assert html.unescape(text) == " ".join(FORGED.replace("\u202e", "").split())
    assert table(("a",), [(text,)]).splitlines()[2] == f"| {text} |"


def test_a_device_cannot_put_a_picture_into_any_document(tmp_path: Path) -> None:
    found = records(OWN, GOOD)
    forger = replace(found[OWN][0].provenance, device=FORGED)
    found = {OWN: [replace(found[OWN][0], provenance=forger)]}
    timed = replace(forger, versions={"torch": FORGED}, finished="![x](y)")
    here, there = (replace(bench_of(), provenance=replace(timed, device=x + FORGED)) for x in "ab")
    sweep = {
        **{"experiments": [OWN], "epochs": 1, "workers": 1, "threads": 1, "device": FORGED},
        **{"counts": {"trained": 1}, "wall_seconds": 1.0, "trained_seconds": 1.0},
    }
    (tmp_path / SWEEPS).write_text(json.dumps([sweep]))
    texts = {
        "records": index(found),
        "durations": how_long(OWN, found[OWN]),
        **scale(found, tmp_path),
        **performance(Timings([here, there, here], [], [])),
    }
    for name in ("records", "durations", "cost", "sweeps", "hardware", "contenders", "earlier"):
        assert shown(FORGED)[5:] in texts[name], name
        assert "http://e" not in texts[name], name
        assert "![x](" not in texts[name], name


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tracked files that the report reads or writes."""
    for name in ("README.md", "CITATION.cff", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    weights = shutil.ignore_patterns("*.safetensors")  # most of the bytes, and none is read
    for name in ("records", "badges", "docs", ".github", "notebooks"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=weights)
    return tmp_path


def check(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["report", "--check", "--root", str(root)])
    return status, capsys.readouterr().err


def test_the_repository_is_as_generated(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(copy, capsys) == (0, "")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert main(["report", "--root", str(copy)]) == 0
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


# What a file has of generated text, and how many blocks of it there are at least; records/README.md
# is generated as a whole.
GENERATED = {
    "records/README.md": 1,
    "README.md": 9,
    "docs/scale.md": 3,
    "docs/performance.md": 9,
    "docs/search.md": 30,
}


def damaged(text: str) -> tuple[str, list[int]]:
    """A digit more in every generated block; the lines, from 1, in which they are."""
    starts = [match.end() for match in re.finditer("<!-- generated: .* -->\n", text)] or [0]
    lines = []
    for start in reversed(starts):
        number = re.compile(r"\w").search(text, start)
        assert number is not None
        lines.append(text[: number.start()].count("\n") + 1)
        text = text[: number.start()] + "9" + text[number.start() :]
    return text, lines[::-1]


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_text_is_guarded(
    name: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / name
    text = path.read_text()
    bad, lines = damaged(text)
    assert len(lines) >= GENERATED[name]
    path.write_text(bad)
    exit_status, errors = check(copy, capsys)
    assert exit_status == 1
    assert f"{name}:{lines[0]}: differs" in errors
    assert "run: python -m mnist_models report" in errors
    assert main(["report", "--root", str(copy)]) == 0
    assert path.read_text() == text
    last = path.read_text().splitlines(keepends=True)
    last[lines[-1] - 1] = bad.splitlines(keepends=True)[lines[-1] - 1]
    path.write_text("".join(last))
    assert f"{name}:{lines[-1]}: differs" in check(copy, capsys)[1]


@pytest.mark.parametrize("suffix", ["svg", "json"])
@pytest.mark.parametrize("name", ["parameters", "accuracy", "consistency"])
def test_any_requirement_badge_is_guarded(
    name: str, suffix: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "badges" / f"{name}.{suffix}"
    text = path.read_text()
    path.write_text(text.replace("0", "1"))
    exit_status, errors = check(copy, capsys)
    assert exit_status == 1
    assert f"badges/{name}.{suffix}:" in errors
    path.unlink()
    assert f"badges/{name}.{suffix}: is missing" in check(copy, capsys)[1]
    assert main(["report", "--root", str(copy)]) == 0
    assert path.read_text() == text


def test_run_badges_are_left_to_the_run(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = ["--tests", "success", "--notebooks", "failure", "--verify", "skipped"]
    assert main(["publish", "--root", str(copy), *results]) == 0
    assert check(copy, capsys) == (0, "")
    before = (copy / "badges" / "tests.svg").read_text()
    assert main(["report", "--root", str(copy)]) == 0
    assert (copy / "badges" / "tests.svg").read_text() == before
    grey = run_badge("tests", "unknown").files()["tests.json"]
    for text in ('{"message": "all 99 pass"}', grey):  # the picture says that they passed
        (copy / "badges" / "tests.json").write_text(text)
        exit_status, errors = check(copy, capsys)
        assert exit_status == 1
        assert "badges/tests.json:1: with badges/tests.svg it is not what" in errors


def test_strange_badges_are_reported(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "badges" / "best.svg").write_text("<svg/>")
    exit_status, errors = check(copy, capsys)
    assert exit_status == 1
    assert "badges/best.svg: belongs to no requirement; run: git rm" in errors


def test_a_new_owner_changes_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = copy / "pyproject.toml"
    project.write_text(project.read_text().replace(SLUG, "some-one/mine"))
    exit_status, errors = check(copy, capsys)
    assert exit_status == 1
    assert "README.md:" in errors
    assert ".github/workflows/check.yml:" in errors
    assert "CITATION.cff:" in errors
    assert main(["report", "--root", str(copy)]) == 0
    capsys.readouterr()
    assert check(copy, capsys) == (0, "")
    for path in copy.rglob("*"):
        if path.is_file() and path.suffix in {".md", ".yml", ".cff", ".py", ".ipynb"}:
            assert SLUG not in path.read_text(), path


def test_a_record_removed_or_damaged_shows(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = find_records(copy / "records")[-1]
    shutil.rmtree(last)
    assert main(["report", "--check", "--root", str(copy)]) == 1
    other = find_records(copy / "records")[0] / FILE_NAME
    text = other.read_text()
    for old, new in (('"test_correct": 9', '"test_correct": 8'), ('"epoch": 1,', '"epoch": 2,')):
        other.write_text(text.replace(old, new))
        assert other.read_text() != text
        exit_status, errors = check(copy, capsys)
        assert exit_status == 2
        assert f"{other.name}: " in errors
        assert "restore it with git, or train that seed again" in errors
    other.write_text(text.replace('"finished": "2026', '"finished": "2027'))
    assert "digest" in check(copy, capsys)[1]
    other.write_text("{")
    assert main(["report", "--check", "--root", str(copy)]) == 2
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "README.md").write_bytes(b"\xff"), "is no UTF-8 text"),
        (lambda root: (root / "README.md").write_text("# mine\n"), "found the blocks none"),
        (lambda root: (root / "README.md").unlink(), "README.md"),
        (lambda root: (root / "pyproject.toml").write_text("["), "cannot read"),
        (lambda root: (root / "CITATION.cff").write_text(""), "expected one line that matches"),
    ],
    ids=["bytes", "blocks", "missing", "project", "citation"],
)
def test_damaged_files_are_named_and_left(
    damage: Callable[[Path], object], message: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for command in (["report", "--check"], ["report"]):
        assert main([*command, "--root", str(copy)]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert "Traceback" not in errors
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "damage"),
    [("README.md", pipe), ("badges/tests.json", pipe), ("badges/accuracy.svg", huge)],
)
def test_what_never_ends_is_named_and_not_read(
    name: str, damage: Callable[[Path], None], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy / name)
    for command in (["report", "--check"], ["report"]):
        with within():
            assert main([*command, "--root", str(copy)]) == 2
        assert f"{name} cannot be read: it " in capsys.readouterr().err


def test_a_link_does_not_stand_for_a_badge(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    badge = copy / "badges" / "accuracy.svg"
    elsewhere = badge.rename(copy / "accuracy.svg")
    badge.symlink_to(elsewhere)
    for command in (["report", "--check"], ["report"]):
        assert main([*command, "--root", str(copy)]) == 2
        assert "accuracy.svg cannot be read: it is a symbolic link" in capsys.readouterr().err


def test_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "badges" / "epochs.json").unlink()
    assert main(["report", "--check", "--json", "--root", str(copy)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert [problem["file"] for problem in found["stale"]] == ["badges/epochs.json"]
    assert main(["report", "--json", "--root", str(copy)]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["badges/epochs.json"]


def test_needs_no_data_set(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_ROOT", "/nowhere")
    monkeypatch.setenv("PATH", "")
    assert check(copy, capsys) == (0, "")


def test_what_draws_nothing_imports_nothing_that_draws() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mnist_models", "report", "--help"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mnist_models.report" in imported
    assert not {"matplotlib", "torch.utils.flop_counter"} & imported


def test_only_the_test_set_is_published(tmp_path: Path) -> None:
    source = find_records(REPOSITORY / "records")[0]
    shutil.copytree(source, tmp_path / "a")
    assert sum(map(len, published(tmp_path).values())) == 1
    for number, change in enumerate([{"name": "digits"}, {"split": "validation"}]):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        edit(folder, lambda table, change=change: table["data"].update(change))
    assert sum(map(len, published(tmp_path).values())) == 1


def test_published_is_in_registry_order() -> None:
    found = published(REPOSITORY / "records")
    assert list(found) == [name for name in EXPERIMENTS if name in found]
    for group in found.values():
        assert [record.seed for record in group] == list(range(len(group)))


def test_generate_and_stale_agree(copy: Path) -> None:
    found = published(copy / "records")
    assert stale(copy, found) == []
    texts = generate(copy, found)
    assert all((copy / name).read_bytes().decode() == text for name, text in texts.items())
