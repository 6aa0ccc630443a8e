from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_models.cli import main
from mnist_models.figures.catalogue import catalogue, write_plots
from mnist_models.report import published
from mnist_models.report.performance import performance
from mnist_models.timings import FILE, Full, Ratio, Timings

from .test_report import check, copy
from .test_timings import accuracy_of, bench_of, choices_of, store

__all__ = ["copy"]  # a fixture
REPOSITORY = Path(__file__).resolve().parent.parent
NAMES = r"bfloat16|steps-6|era-v3|frontier-8k|--full 15"


def test_nothing_is_claimed_before_it_is_measured() -> None:
    text = performance(Timings([], [], []))
    assert all("not measured" in text[block].lower() for block in text if block != "figure")
    assert "docs/performance.json" in text["contenders"]
    assert "bench --choices --log docs/performance.json" in text["choices"]
    assert "![" not in text["figure"]


def test_what_was_measured_is_shown() -> None:
    text = performance(Timings([bench_of()], [choices_of()], []))
    assert "| steps-6: this loop | 11 | 10 | 12 |" in text["contenders"]
    assert "`steps-6` takes 123,456,789 floating-point operations" in text["contenders"]
    assert "a product of matrices runs at 55 GFLOP/s." in text["contenders"]
    assert "Everything. One note. Another." in text["contenders"]
    assert "| steps-6: notebook / this loop | 3.75 | 3.5 | 4 | >= 3 | kept |" in text["ratios"]
    assert "| 1.12 | 1 | 1.25 | <= 1.10 | **broken** |" in text["ratios"]
    assert "| steps-6: notebook | 0.375 | 41 | 2 | 10.8 min |" in text["to-the-end"]
    assert "To the end = all of it." in text["to-the-end"]
    assert "| steps-6: notebook / this loop | 3.32 | 3.14 | 3.49 | - |  |" in text["to-the-end"]
    assert "**No contender was really trained to its end**" in text["to-the-end"]
    assert (
        "| contenders | cpu: some, 2 threads | 2 | python 3.11, torch 2.6 | 2 | 96 |"
        in (text["hardware"])
    )
    assert text["hardware"].count("\n") == 4
    assert "![Seconds of an epoch" in text["figure"]
    assert "(figures/timing.svg)" in text["figure"]
    assert "GPU: not measured" in text["gpu"]


def test_a_choice_is_decided_only_where_all_rounds_agree() -> None:
    lines = performance(Timings([], [choices_of()], []))["choices"].splitlines()
    assert lines[0].startswith("| `steps-6`: variant | ms a step | runs an hour |")
    assert lines[2] == "| as built | 10 | 25.6 |  |  |  |  |"
    assert lines[3] == "| slower | 25 | 10.2 | 2.5 | 2 | 3 | as built |"
    assert lines[4] == "| unclear | 11 | 23.3 | 1.1 | 0.95 | 1.25 | the rounds disagree |"


def test_accuracies_are_compared_seed_by_seed() -> None:
    text = performance(Timings([], [], [accuracy_of()]))
    lines = text["accuracy"].splitlines()
    assert lines[2] == "| one by one | 98.20 % ± 0.20 | 98.00 % | 98.40 % |  |  |  |"
    # -2, -2, -5 of 1,000: Student's t with two degrees of freedom
    assert lines[3] == (
        "| faster | 97.90 % ± 0.10 | 97.80 % | 98.00 % | -0.300 | -0.730 to +0.130 | 0.095 |"
    )
    assert lines[4] == (
        "| the same | 98.20 % ± 0.20 | 98.00 % | 98.40 % | +0.000 | +0.000 to +0.000 | - |"
    )
    assert "`steps-6`, 15 epochs, 3 seeds each, 2 at a time where side by side" in lines[-1]
    assert "1,000 validation images" in lines[-1]
    assert (
        "| accuracy | cpu: some, 2 threads | 2 | python 3.11, torch 2.6 |  |  |"
        in (text["hardware"])
    )


def test_really_trained_to_the_end() -> None:
    names = ("steps-6: this loop", "steps-6: notebook")
    full = Full(
        epochs=15,
        seconds=dict(zip(names, (300.0, 1_200.0), strict=True)),
        correct=dict(zip(names, (9_930, 9_921), strict=True)),
        total=10_000,
        ratios={"steps-6: notebook / this loop": 4.0},
    )
    text = performance(Timings([bench_of(full=full)], [], []))["to-the-end"]
    assert "| steps-6: notebook | 20 min | 9,921 of 10,000 |" in text
    assert "steps-6: notebook / this loop: 4." in text
    assert "No contender" not in text


def test_a_gpu_has_its_own_part() -> None:
    there = bench_of("cuda: some"), choices_of("cuda: some"), accuracy_of("cuda: some")
    text = performance(Timings([there[0]], [there[1]], [there[2]]))
    assert "**cuda: some**" in text["gpu"]
    assert "| steps-6: this loop | 11 | 10 | 12 |" in text["gpu"]
    assert "| slower |" in text["gpu"]
    assert "| faster |" in text["gpu"]
    assert "Not measured yet" in text["contenders"]
    assert "Not measured yet" in text["choices"]
    assert "bench --accuracy --log docs/performance.json" in text["accuracy"]
    both = performance(Timings([bench_of(), bench_of("cpu: other"), there[0]], [], []))
    assert both["contenders"].count("**cpu: ") == 2  # several are told apart
    assert "cuda" not in both["contenders"]


def test_earlier_measurements_of_a_device_stand_beside_the_newest() -> None:
    first, last = bench_of(), bench_of()
    faster = {
        name: Ratio.of([2 * x for x in ratio.rounds], ratio.limit)
        for name, ratio in last.ratios.items()
    }
    last = replace(last, ratios=faster | {"only here": Ratio.of([7])})
    text = performance(
        Timings([first, bench_of("cuda: some"), last], [choices_of(), choices_of()], [])
    )
    assert text["contenders"] == performance(Timings([last], [], []))["contenders"]
    bench, choices = text["earlier"].split("\n\n**")
    assert "| steps-6: notebook / this loop | 3.75 | 7.5 |" in bench
    assert "| **1.12, broken** | **2.25, broken** |" in bench
    assert "| only here |  | 7 |" in bench
    assert "cuda" not in text["earlier"]
    assert "| steps-6: slower | 2.5 | 2.5 |" in choices
    assert "as built |" not in choices.splitlines()[4]
    once = performance(Timings([bench_of(), bench_of("cuda: some")], [], []))
    assert once["earlier"] == "Not measured twice on any device yet.\n"


def test_the_prose_types_no_number() -> None:
    text = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert re.findall(r"\d+", re.sub(NAMES, "", prose)) == []


def test_a_measurement_makes_text_and_figure_stale(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(copy, bench_of(), choices_of())
    (copy / "docs" / "figures" / "timing.svg").unlink(missing_ok=True)
    status, errors = check(copy, capsys)
    assert status == 1
    assert "docs/performance.md:" in errors
    assert "docs/figures/timing.svg: it is missing; run: python -m mnist_models report" in errors
    assert main(["report", "--root", str(copy)]) == 0
    status, errors = check(copy, capsys)
    assert "performance" not in errors
    assert "timing" not in errors
    assert "| slower | 25 | 10.2 |" in (copy / "docs" / "performance.md").read_text()
    (copy / FILE).unlink()
    _, errors = check(copy, capsys)
    assert "docs/figures/timing.svg: no model and no record gives this picture" in errors


def test_a_damaged_measurement_ends_the_report(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copy / "docs" / "performance.md").read_bytes()
    store(copy).write_text("[{")
    for more in ([], ["--check"]):
        assert main(["report", *more, "--root", str(copy)]) == 2
        error = capsys.readouterr().err
        assert "error: docs/performance.json: " in error
        assert "Traceback" not in error
    assert (copy / "docs" / "performance.md").read_bytes() == before


def test_the_figure_is_in_the_catalogue_once_there_is_a_measurement(tmp_path: Path) -> None:
    assert "timing.svg" not in [picture.file for picture in catalogue({})]
    (picture,) = [p for p in catalogue({}, [bench_of()]) if p.file == "timing.svg"]
    assert picture.alt.endswith(".")
    assert not picture.needs_data
    store(tmp_path, bench_of())
    (written,) = write_plots(tmp_path, {})
    assert written.name == "timing.svg"
    assert write_plots(tmp_path, {}) == []
    store(tmp_path, bench_of("cpu: other"))
    assert write_plots(tmp_path, {}) == [written]
    assert published(tmp_path / "records") == {}
