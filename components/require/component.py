"""The one component that stops a run: every gate writes a verdict, this reads it."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def require(verdict: dsl.Input[dsl.Artifact], notes: str = "", run: str = "") -> None:
    """Fail where the verdict failed, with its reasons. What follows waits on this with `.after(...)`.

    Args:
        verdict: What a step with a gate wrote.
        notes: A folder where the verdict is left for the run's summary; empty: none.
        run: The run's id, for the note.
    """
    from pathlib import Path

    from components.notify.notes import leave_verdict
    from nextpage.gates import Verdict

    found = Verdict.read(Path(verdict.path))
    leave_verdict(notes, run, found)
    found.require()
