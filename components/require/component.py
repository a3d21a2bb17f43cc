"""The one component that stops a run: every gate writes a verdict, this reads it."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def require(verdict: dsl.Input[dsl.Artifact]) -> None:
    """Fail where the verdict failed, with its reasons. What follows waits on this with `.after(...)`."""
    from pathlib import Path

    from nextpage.gates import Verdict

    Verdict.read(Path(verdict.path)).require()
