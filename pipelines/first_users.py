"""What follows a release where the main pipeline is told how to roll out: the log of the one that serves, first users,
and some minutes of them.

The A/B test's days are `rollout.py`'s, a run of its own that comes again and again.
"""

from kfp import dsl

from components.deploy.component import act, deploy
from components.gate.component import canary
from components.pregate.component import pregate
from components.require.component import require
from pipelines.machines import acting


@dsl.pipeline(name="first-users", description="Deploys a release, waits for its canary, and moves traffic.")
def first_users(release: dsl.Input[dsl.Model], clean: dsl.Input[dsl.Dataset], rollout: str) -> None:
    """Deploys a release, waits for its canary, and moves traffic as that says.

    Fails where the release is shown to be worse on the log of the one that serves, and where it is rolled back.

    Args:
        release: The sealed release.
        clean: The dataset folder that passed validation.
        rollout: Where and how releases are rolled out, YAML or JSON text.
    """
    weighed = acting(pregate(release=release, clean=clean, rollout=rollout), "weigh on the serving release's log")
    harmless = require(verdict=weighed.outputs["verdict"]).set_display_name("require no harm on the log")
    harmless.set_caching_options(False)
    deployed = acting(deploy(release=release, rollout=rollout), "deploy to first users").after(harmless)
    looked = acting(canary(rollout=rollout, wait=True), "operational canary").after(deployed)
    moved = acting(act(canary=looked.outputs["record"], rollout=rollout), "move traffic")
    require(verdict=moved.outputs["verdict"]).set_display_name("require no rollback").set_caching_options(False)
