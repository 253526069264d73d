"""The report, and the command that writes it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dp2p.cli.sim import sim
from dp2p.sim.outcome import Bar, Outcome, Plot, Series
from dp2p.sim.plots import draw
from dp2p.sim.report import BEGIN, DATA, END, REPORT, Report, ReportError

PNG = b"\x89PNG\r\n\x1a\n"


def outcome() -> Outcome:
    plot = Plot("picture", "A picture", "x", "y", [Series("one", [1, 2], [3, 4])], x_log=True)
    bars = [Bar.least("success", 0.5, 0.9, "0.95"), Bar.most("hops", 3, 6), Bar("nodes", 12345)]
    return Outcome(bars, [{"n": 1}], [plot], ["A note."])


@pytest.mark.parametrize(
    ("bar", "held"),
    [
        (Bar.least("x", 1, 1), True),
        (Bar.least("x", 0.9, 1), False),
        (Bar.most("x", 1, 1), True),
        (Bar.most("x", 1.1, 1), False),
        (Bar.near("x", 1.1, 1.0, 0.2), True),
        (Bar.near("x", 0.7, 1.0, 0.2), False),
        (Bar("x", 1), None),
    ],
)
def test_bars(bar: Bar, held: bool | None) -> None:
    assert bar.held is held


def test_a_report_has_a_row_for_each_figure_and_goes_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    folder = tmp_path / "sim"
    folder.mkdir()
    report = Report("small", 1, "a machine", {})
    report.add("one", outcome(), 2.5)
    report.write(folder, ["one"], page)
    text = page.read_text()
    assert text.startswith(
        f"before\n{BEGIN}\n1 experiments, size small, seed 1, 2 seconds on a machine"
    )
    assert text.endswith(f"{END}\nafter\n")
    assert "| success | 0.5 | 0.95 | >= 0.9 | **no** |" in text
    assert "| hops | 3 |  | <= 6 | yes |" in text
    assert "A note." in text
    assert "old" not in text
    assert "(sim/picture.png)" in text
    assert "(picture.png)" in (folder / REPORT).read_text()


def test_results_of_other_experiments_are_kept_when_size_and_seed_are_the_same(
    tmp_path: Path,
) -> None:
    report = Report("small", 1, "a machine", {})
    report.add("one", outcome(), 1)
    report.write(tmp_path, ["one", "two"], None)
    assert set(Report.resumed(tmp_path, "small", 1).results) == {"one"}
    assert Report.resumed(tmp_path, "small", 2).results == {}
    assert Report.resumed(tmp_path, "full", 1).results == {}
    (tmp_path / DATA).write_text("{")
    with pytest.raises(ReportError, match=DATA):
        Report.resumed(tmp_path, "small", 1)


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(ReportError, match=r"page\.md"):
        Report("small", 1, "a machine", {}).write(tmp_path, [], page)


def test_plots_are_pictures_and_the_same_each_time(tmp_path: Path) -> None:
    draw(outcome().plots, tmp_path)
    first = (tmp_path / "picture.png").read_bytes()
    draw(outcome().plots, tmp_path)
    assert first.startswith(PNG)
    assert (tmp_path / "picture.png").read_bytes() == first


def test_the_command_runs_one_and_writes_all(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        sim, ["bits", "--size", "small", "--out", str(tmp_path)], standalone_mode=False
    )
    assert result.exception is None
    assert result.return_value == 0
    assert "bits gained by a hop, k = 16" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {DATA, REPORT, "bits.png"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nonsense"], "no experiment nonsense"), (["--into", __file__], "needs --out")],
)
def test_wrong_use_is_refused(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(sim, arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_the_list_names_every_experiment() -> None:
    result = CliRunner().invoke(sim, ["--list"], standalone_mode=False)
    assert result.stdout.splitlines()[0].split() == ["NAME", "MEASURES"]
    assert "hops-model" in result.stdout
