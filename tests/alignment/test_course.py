"""The course of an alignment on disk, whatever kills the run that writes it."""

import itertools
from pathlib import Path

import pytest

from nextpage.alignment.course import COURSE, Course, read_course


def _course(folder: Path, first: int = 0) -> Course:
    """Measures 0, 1, 2, … in turn, from `first`."""
    numbers = itertools.count(first)
    return Course(folder / COURSE, lambda: {"R@1": float(next(numbers))})


def _steps(folder: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["R@1"]) for line in read_course(folder / COURSE)]


def test_lines_stand_in_order_of_their_steps_with_what_was_measured_then(tmp_path: Path) -> None:
    course = _course(tmp_path)
    assert read_course(tmp_path / COURSE) == []
    for step in (0, 20, 40):
        course(step)
    assert _steps(tmp_path) == [(0, 0.0), (20, 1.0), (40, 2.0)]


def test_lines_of_steps_that_are_done_again_are_replaced(tmp_path: Path) -> None:
    killed = _course(tmp_path)
    for step in (0, 20, 40, 60):
        killed(step)
    resumed = _course(tmp_path, first=100)  # from a checkpoint at 30
    resumed(40)
    assert _steps(tmp_path) == [(0, 0.0), (20, 1.0), (40, 100.0)]
    resumed(60)
    assert _steps(tmp_path) == [(0, 0.0), (20, 1.0), (40, 100.0), (60, 101.0)]


def test_killed_while_it_writes_it_leaves_the_lines_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = _course(tmp_path)
    course(0)
    whole = Path.write_text

    def cut_short(path: Path, text: str) -> int:
        whole(path, text[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", cut_short)
        with pytest.raises(KeyboardInterrupt):
            course(20)
    assert _steps(tmp_path) == [(0, 0.0)]
    course(20)
    assert _steps(tmp_path) == [(0, 0.0), (20, 2.0)]
    assert [path.name for path in tmp_path.iterdir()] == [COURSE]


def test_where_measuring_fails_nothing_is_written(tmp_path: Path) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("out of memory")

    _course(tmp_path)(0)
    with pytest.raises(RuntimeError, match="out of memory"):
        Course(tmp_path / COURSE, fail)(20)
    assert _steps(tmp_path) == [(0, 0.0)]
