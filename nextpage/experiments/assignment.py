"""Who sees which arm: a salted hash of the user, the same for the gateway's header and for the analysis.

A user's bucket is SHA-256 of salt and user modulo 10,000. At a treatment share s, buckets below s are *treatment*, as
many at the other end are *control*, and those between are *outside*: they get the control release and are not
analysed. So the arms are of one size at every step of a ramp and grow towards each other: nobody who was analysed in
one arm is ever in the other, until a share above one half takes treatment's users from control.

    share 10%   treatment [0, 1000)   outside [1000, 9000)   control [9000, 10000)
    share 50%   treatment [0, 5000)                          control [5000, 10000)

Experiments of one *layer* share its buckets out among themselves, so that no user is in two of them; each then draws
its arms by a hash of its own. Layers are independent of each other (Tang et al. 2010, "Overlapping Experiment
Infrastructure"). A new experiment needs a new name, or it inherits the arms, and the habits, of the last one.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

BUCKETS = 10_000
CONTROL = "control"
TREATMENT = "treatment"
OUTSIDE = "outside"
ARMS = (CONTROL, TREATMENT)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """`share`: of the experiment's users that are in treatment, in steps of 1/10,000. `slots`: the buckets of its
    layer that the experiment holds, first and one past the last. `overrides`: user → arm, for those who look at a
    release before others do; they are served so and not analysed."""

    name: str
    share: float = 0.5
    layer: str = "default"
    slots: tuple[int, int] = (0, BUCKETS)
    overrides: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an experiment has no name: name it, its users are drawn by it")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} of experiment {self.name!r} is no share: use 0 to 1")
        if not 0 <= self.slots[0] < self.slots[1] <= BUCKETS:
            raise ValueError(f"slots {self.slots} of experiment {self.name!r} are no part of 0 to {BUCKETS:,}")
        for user, arm in self.overrides.items():
            if arm not in ARMS:
                raise ValueError(
                    f"experiment {self.name!r} puts user {user!r} into arm {arm!r}: use {' or '.join(ARMS)}"
                )

    @property
    def edges(self) -> tuple[int, int]:
        """Treatment has the buckets below the first edge, control those from the second on."""
        treated = round(self.share * BUCKETS)
        return treated, max(treated, BUCKETS - treated)

    @property
    def treatment_share(self) -> float:
        """Of the analysed users, the share to be expected in treatment; NaN where nobody is analysed."""
        treated, control = self.edges
        analysed = treated + BUCKETS - control
        return treated / analysed if analysed else float("nan")


def buckets(users: Iterable[str], salt: str) -> np.ndarray:
    """The bucket of each user, int64 [U] in 0 to 9,999. The last 64 bits' remainder is even to within 1e-15."""
    salted = hashlib.sha256(f"{salt}\0".encode())

    def bucket(user: str) -> int:
        digest = salted.copy()
        digest.update(user.encode())
        return int.from_bytes(digest.digest()[:8]) % BUCKETS

    return np.fromiter((bucket(user) for user in users), np.int64)


def arms(users: Sequence[str | None], experiment: Experiment) -> np.ndarray:
    """The arm that each user is served: control, treatment or outside, strings [U]. Without an id: outside."""
    served = _drawn(users, experiment)
    if experiment.overrides:
        for row, user in enumerate(users):
            served[row] = experiment.overrides.get(user or "", served[row])
    return served


def arm(user: str | None, experiment: Experiment) -> str:
    """The arm of one user: the value of the gateway's header, *outside* too: sent as control, they would be
    logged as analysed users, who change arms as the share grows."""
    return str(arms([user], experiment)[0])


def analysed_arms(users: Sequence[str | None], experiment: Experiment) -> np.ndarray:
    """As `arms`, with those outside who were put into their arm by hand."""
    drawn = _drawn(users, experiment)
    drawn[[user in experiment.overrides for user in users]] = OUTSIDE
    return drawn


def ramped(experiment: Experiment, share: float) -> Experiment:
    """The experiment at a larger share. Raises ValueError for a smaller one: its users would change arms and back."""
    if share < experiment.share:
        raise ValueError(
            f"experiment {experiment.name!r} is at {experiment.share:.2%} and cannot go back to {share:.2%}: "
            "roll it back and start a new one under a new name"
        )
    return replace(experiment, share=share)


def check_layers(experiments: Iterable[Experiment]) -> None:
    """Raises ValueError where two experiments of one layer could hold the same user, or two have one name."""
    held: list[Experiment] = []
    for new in experiments:
        for old in held:
            if new.name == old.name:
                raise ValueError(f"two experiments are named {new.name!r}: their arms would be the same users")
            if new.layer == old.layer and new.slots[0] < old.slots[1] and old.slots[0] < new.slots[1]:
                raise ValueError(
                    f"experiments {old.name!r} with slots {old.slots} and {new.name!r} with slots {new.slots} overlap "
                    f"in layer {new.layer!r}: give them disjoint slots, or another layer"
                )
        held.append(new)


def _drawn(users: Sequence[str | None], experiment: Experiment) -> np.ndarray:
    named = [user or "" for user in users]
    held = buckets(named, f"layer/{experiment.layer}")
    drawn = buckets(named, f"experiment/{experiment.name}")
    treated, control = experiment.edges
    first, end = experiment.slots
    taking_part = (held >= first) & (held < end) & np.array([bool(user) for user in named], dtype=bool)
    return np.select(
        [taking_part & (drawn < treated), taking_part & (drawn >= control)], [TREATMENT, CONTROL], OUTSIDE
    ).astype(object)
