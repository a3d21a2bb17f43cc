"""The share of users that see a candidate: one number, which the rollout's state holds and `ramp` alone moves.

Whoever sets the arm's header (the edge, a load generator) asks here with the state as it is written; routes lead the
header to the release. So the hash and the routes cannot stand at two shares.
"""

from collections.abc import Mapping

from nextpage.experiments.assignment import Experiment
from serving.rollout.state import State

NOBODY = "nobody"  # the experiment while no release is rolled out


def experiment(state: State, overrides: Mapping[str, str] | None = None) -> Experiment:
    """The candidate's experiment at its share; its users are drawn anew for every release, by its name.

    `assignment.arm(user, …)` of it is the header's value: treatment, control, or outside, which the stable release
    serves and nobody analyses. Without a candidate all are outside, those of `overrides` (user → arm) too.
    """
    if state.candidate is None:
        return Experiment(name=NOBODY, share=0.0)
    return Experiment(name=state.candidate.name, share=state.percent / 100, overrides=overrides or {})
