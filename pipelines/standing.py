"""A rollout by hand: where it stands, and the two things that must not wait for a pipeline."""

from components.deploy.config import read_rollout
from components.deploy.traffic import open_rollout
from serving.rollout.errors import RolloutRefused
from serving.rollout.state import State


def standing(settings: str, *, resume: bool = False, roll_back: str = "") -> str:
    """The rollout of these settings (YAML or JSON text) in lines, after what was asked for was done.

    `resume` finishes what a process that died had begun: a promotion that lacks its last step, an old release that was
    not removed yet, on one machine a server or an Envoy that was killed. `roll_back`, a reason, takes all traffic from
    the new release. Raises RolloutRefused where there is none, and what the rollout raises.
    """
    rollout = open_rollout(read_rollout(settings))
    state = rollout.resume() if resume else rollout.state()
    if roll_back:
        if state.candidate is None:
            raise RolloutRefused("no release is being rolled out: there is nothing to take back")
        state = rollout.roll_back(state.candidate.name, roll_back)
    return lines(state)


def lines(state: State) -> str:
    """The state for people: phase, shares, and what came of the releases before, the last one first."""
    shares = [f"{share:>4}%  {name}" for name, share in state.shares.items()]
    past = [
        f"{'promoted' if outcome.promoted else 'rolled back'}: {outcome.release} {outcome.reason}".rstrip()
        for outcome in reversed(state.past)
    ]
    return "\n".join([f"{state.phase}, by {state.strategy}", *shares, *past])
