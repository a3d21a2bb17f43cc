"""How releases of one service are rolled out: one YAML or JSON text, the same for every step of every run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from nextpage.experiments.canary import CanaryConfig
from nextpage.recipes.recipe import Recipe
from serving.rollout.driver import STRATEGIES
from serving.rollout.release import Autoscaling, Pods, Transformer

ALL = 100
LARGEST_SHARE = 50  # of an experiment: above it, treatment grows by control's users


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """`records`: a folder that outlives every run, with what was registered and every verdict. `storage`: where a
    release's bytes lie, with {name} or {hash}; s3://, gs:// and file:// are written by `deploy`, other schemes must
    hold it before. `ramp`: percent of users, step by step; the last is 100, promotion. `experiment`: users stay in
    their arm and the A/B test alone may promote; else the canary goes all the way.

    `events`: the servers' event log, or a Parquet file of evidence; `event_stream`: of servers that log to Redis, its
    URL: every look first moves what is new there into `events`. `users`: Parquet with `pre_…` and `segment_…` columns.
    Local: `folder`, `port`, and the `command` that serves a release, with {python}, {port}, {name}, {folder}.
    """

    records: str
    storage: str
    events: str
    strategy: str = "auto"
    service: str = "nextpage"
    namespace: str = "default"
    hostnames: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ("kserve", "kserve-ingress-gateway")  # namespace, name
    kserve_version: str = ""  # "0.21"; empty: found out
    ramp: tuple[int, ...] = (5, 10, 25, 50, 100)
    experiment: bool = True
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    canary_wait_minutes: float = 15.0  # of the pipeline that releases; 0: one look
    poll_s: float = 15.0
    event_stream: str = ""
    users: str = ""
    overrides: dict[str, str] = field(default_factory=dict)  # user → arm: served so and not analysed
    day_s: float = 86_400.0
    attribution_window_s: float = 86_400.0
    slow_ms: float = 200.0
    logged_requests: int = 2_000  # that a release answers anew before it is deployed, where there is a log
    ready_s: float = 1_800.0
    linger_s: float = 15.0
    pods: Pods = field(default_factory=Pods)
    autoscaling: Autoscaling | None = None
    transformer: Transformer | None = None
    folder: str = ""
    port: int = 0
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.strategy not in ("auto", "local", *STRATEGIES):
            raise ValueError(f"strategy {self.strategy!r} of the rollout: use auto, local, {', '.join(STRATEGIES)}")
        rising = all(low < high for low, high in zip((0, *self.ramp), self.ramp, strict=False))
        if not rising or self.ramp[-1:] != (ALL,):
            raise ValueError(f"the ramp {list(self.ramp)} must rise from above 0 to 100, for example [5, 25, 50, 100]")
        moving = [step for step in self.ramp if LARGEST_SHARE < step < ALL]
        if self.experiment and moving:
            raise ValueError(
                f"the ramp has {moving[0]}%: between 50 and 100 control's users would change arms, which an experiment "
                "cannot have; leave such steps out, or set experiment to false"
            )
        if not ("{name}" in self.storage or "{hash}" in self.storage):
            raise ValueError(f"storage {self.storage!r} is one place for all releases: put {{name}} or {{hash}} in it")
        needed = {"local": ("folder", "port"), "httproute": ("hostnames",)}.get(self.strategy, ())
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"strategy {self.strategy!r} of the rollout needs {name}: set it")


def read_rollout(text: str) -> RolloutConfig:
    """From YAML or JSON text. Raises ValueError for a setting that is unknown, missing or of another type."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, Mapping):
        raise ValueError(f"the rollout is no mapping, it begins {text[:60]!r}: see components/deploy/README.md")
    parts = {"autoscaling": Autoscaling, "transformer": Transformer}
    built = {name: _part(raw[name], name, kind) for name, kind in parts.items() if raw.get(name)}
    return _part({**raw, **built}, "rollout", RolloutConfig)


def _part(raw: Mapping[str, Any], place: str, kind: type[Any]) -> Any:
    try:
        return Recipe(name="rollout", sections={place: dict(raw)}).part(place, kind)
    except TypeError as error:  # a setting without default is missing
        raise ValueError(f"{place} is incomplete: {error}") from error
