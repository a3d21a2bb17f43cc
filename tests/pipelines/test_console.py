"""What a person sees of a run, and that the log keeps the rest."""

import io

from pipelines.console import Console

RUNNER = """\
08:40:53.906 - INFO - Running pipeline: \x1b[95m'pp'\x1b[0m
----------------------------------------
08:40:53.933 - INFO - Executing task \x1b[96m'train'\x1b[0m
08:40:53.934 - INFO - Streamed logs:

    [KFP Executor 2026-11-22 08:40:54,312 INFO]: Got executor_input:
    {
        "inputs": {
            "parameterValues": {}
        }
    }
    train: 50%|#####     | 5/10, loss 3.1
{rest}"""


def _shown(rest: str) -> tuple[str, str]:
    screen, log = io.StringIO(), io.StringIO()
    console = Console(screen, log)
    for piece in (RUNNER.replace("{rest}", rest) + "\n").partition("Streamed"):  # lines come in pieces
        console.write(piece)
    return screen.getvalue(), log.getvalue()


def test_a_step_shows_its_name_its_own_lines_and_its_time_and_no_dumps() -> None:
    ended = "08:40:55.0 - INFO - Task 'train' finished with status SUCCESS\n    model: Model( name='model')"
    screen, log = _shown(ended)
    heading, progress, done = screen.splitlines()
    assert heading == "▸ train"
    assert progress == "  train: 50%|#####     | 5/10, loss 3.1"
    assert done.startswith("  done in ")
    assert '"parameterValues"' in log
    assert "name='model'" in log


def test_a_failure_shows_the_error_and_leaves_the_traceback_to_the_log() -> None:
    failed = (
        "    Traceback (most recent call last):\n"
        '      File "x.py", line 1, in f\n'
        "    nextpage.gates.GateFailed: gate 'data quality' stopped the run: too few rows\n"
        "08:40:55.0 - ERROR - Task 'train' finished with status FAILURE"
    )
    screen, log = _shown(failed)
    assert "  nextpage.gates.GateFailed: gate 'data quality' stopped the run: too few rows" in screen
    assert "x.py" not in screen
    assert 'File "x.py", line 1' in log
    assert "failed in" in screen
