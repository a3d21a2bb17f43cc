"""The share of users that see a candidate: one number, which the rollout's state holds and `ramp` alone moves.

Whoever sets the arm's header (the edge, a load generator) asks here with the state as it is written; routes lead the
header to the release. So the hash and the routes cannot stand at two shares.
"""

from collections.abc import Mapping

from nextpage.experiments.assignment import Experiment
from serving.rollout.state import State


def experiment(state: State, name: str, overrides: Mapping[str, str] | None = None) -> Experiment:
    """Experiment `name` at the state's share. `assignment.arm(user, …)` of it is the header's value: treatment,
    control, or outside, which the stable release serves and nobody analyses. With no candidate all are outside."""
    return Experiment(name=name, share=state.percent / 100, overrides=overrides or {})
