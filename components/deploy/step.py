"""A release gets its first users, and later more or none, as the records of its verdicts say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.deploy.config import ALL, RolloutConfig
from components.deploy.registration import keep_catalogue, register
from components.deploy.storage import label, published
from components.deploy.traffic import open_rollout
from nextpage.experiments.canary_record import CanaryRecord, read_canary_record, reproduce_canary
from nextpage.experiments.gate import INVALID, PROMOTE, ROLLBACK
from nextpage.experiments.record import Record, Releases, read_record, reproduce
from nextpage.experiments.sealed import RecordRefused
from nextpage.gates import Verdict
from nextpage.release import verify
from serving.rollout.release import Release
from serving.rollout.rollout import Rollout
from serving.rollout.state import Phase, State

SMOKE_ITEMS = 5
NO_RECORD = "null"
ROLLED_BACK, HELD = "rolled back", "held"  # what somebody has to look at


@dataclass(frozen=True, kw_only=True)
class Action:
    """What was done: started, ramped, promoted, rolled back, held or nothing, why, and where the rollout stands now."""

    done: str
    reasons: tuple[str, ...]
    state: State


def start(config: RolloutConfig, release: Path) -> Action:
    """Bring a sealed release up, ask it for a prediction, register its experiment, and give it the ramp's first step.

    The first release of a service takes all traffic once it has answered. May be repeated: nothing is done twice, and
    a release that has more already keeps it. Raises ReleaseRejected where it does not answer as it should, or was
    rolled back before; ReleaseRefused where a byte was changed; RolloutRefused where another one is under way.
    """
    manifest = verify(release)
    rollout = open_rollout(config, smoke_request(release))
    records, name = Path(config.records), label(manifest)
    keep_catalogue(records, release, manifest.hash)
    pods: dict[str, Any] = {"pods": config.pods, "autoscaling": config.autoscaling, "transformer": config.transformer}
    uri = published(release, manifest, config.storage)
    state = rollout.start(Release(name=name, storage_uri=uri, hash=manifest.hash, **pods))
    if state.candidate is None:
        return Action(done="promoted", reasons=(f"{name} has all traffic: nothing served before it",), state=state)
    assert state.stable is not None
    register(
        records,
        name=name,
        release=release,
        releases=Releases(control=state.stable.hash, treatment=manifest.hash),
        began=datetime.now(UTC),
        experiment=config.experiment,
    )
    if state.percent < config.ramp[0]:
        state = rollout.ramp(name, config.ramp[0])
    said = f"{name} answered its smoke test and has {state.percent}% of users, {state.stable.name} the others"
    return Action(done="started", reasons=(said,), state=state)


def act(config: RolloutConfig, records: Sequence[Path]) -> Action:
    """Do what the latest looks say: any ROLLBACK takes the release back, any INVALID holds its traffic, and a PROMOTE
    gives it the step of the ramp that follows the share it was made at. The last step is promotion, which with an
    experiment the A/B test alone may take.

    May be repeated, by any process and after a crash anywhere: a record moves traffic from its own share only, so
    never twice; what an earlier call left undone is finished. Raises RecordRefused for a record that was changed, or
    whose verdict does not follow from its evidence.
    """
    looks = [look for look in map(read_look, records) if look is not None]
    rollout = open_rollout(config)
    state = rollout.state()
    ours = [look for look in looks if _is_under_way(look, state)]
    if not ours:
        return Action(
            done="nothing", reasons=("no release that these records are of is under way",), state=_healed(rollout)
        )
    assert state.candidate is not None
    name, reasons = state.candidate.name, tuple(reason for look in ours for reason in _reasons(look))
    verdicts = {_verdict(look) for look in ours}
    if ROLLBACK in verdicts:
        worse = tuple(reason for look in ours if _verdict(look) == ROLLBACK for reason in _reasons(look))
        return Action(done=ROLLED_BACK, reasons=worse, state=rollout.roll_back(name, "; ".join(worse)))
    if INVALID in verdicts:
        held = f"traffic is held at {state.percent}%: find out why the figures cannot be trusted"
        return Action(done=HELD, reasons=(held, *reasons), state=_healed(rollout))
    step = max((next_percent(look, config) for look in ours if _verdict(look) == PROMOTE), default=0)
    if state.phase is not Phase.RAMPING or step <= state.percent:
        return Action(done="nothing", reasons=reasons, state=_healed(rollout))
    if step == ALL:
        return Action(done="promoted", reasons=reasons, state=rollout.promote(name))
    return Action(done="ramped", reasons=reasons, state=rollout.ramp(name, step))


def next_percent(look: Record | CanaryRecord, config: RolloutConfig) -> int:
    """Where a PROMOTE leads: the step after the record's own share, whatever the share is by now."""
    if look.percent is None:
        raise RecordRefused(f"record {look.hash[:12]} says at no share: it was made for no rollout")
    most = ALL if isinstance(look, Record) or not config.experiment else ALL - 1
    steps = [step for step in config.ramp if look.percent < step <= most]
    return steps[0] if steps else look.percent


def read_look(path: Path) -> Record | CanaryRecord | None:
    """A record of either gate, its verdict computed anew; None where the gate had nothing to judge."""
    text = path.read_text()
    if text == NO_RECORD:
        return None
    if "config" in json.loads(text):
        canary = read_canary_record(path)
        reproduce_canary(canary)
        return canary
    record = read_record(path)
    reproduce(record)
    return record


def smoke_request(release: Path) -> dict[str, Any]:
    """A slate for somebody who ordered the most popular items: any release knows these."""
    import pyarrow.parquet as pq

    items = pq.read_table(release / "items.parquet", columns=["item_id", "orders"])
    popular = items.sort_by([("orders", "descending"), ("item_id", "ascending")])["item_id"][:SMOKE_ITEMS]
    return {"history": {"items": popular.to_pylist()}, "k": 10}


def action_card(action: Action) -> str:
    """The action in Markdown."""
    shares = "\n".join(f"| {name} | {share}% |" for name, share in action.state.shares.items())
    reasons = "\n".join(f"- {reason}" for reason in action.reasons)
    return f"# {action.done.capitalize()}\n\n{reasons}\n\n| release | share |\n|---|---|\n{shares}\n"


def action_verdict(action: Action) -> Verdict:
    """For `require`: a run that took a release back, or could not believe its figures, is no success."""
    passed = action.done not in (ROLLED_BACK, HELD)
    return Verdict(gate="rollout", passed=passed, reasons=(action.done, *action.reasons))


def _is_under_way(look: Record | CanaryRecord, state: State) -> bool:
    found = (state.stable and state.stable.hash, state.candidate and state.candidate.hash)
    return found == (look.releases.control, look.releases.treatment)


def _verdict(look: Record | CanaryRecord) -> str:
    return look.decision.verdict if isinstance(look, Record) else look.verdict


def _reasons(look: Record | CanaryRecord) -> tuple[str, ...]:
    said = look.decision.reasons if isinstance(look, Record) else look.reasons
    gate = "A/B test" if isinstance(look, Record) else "canary"
    return tuple(f"{gate}, {_verdict(look)}: {reason}" for reason in said)


def _healed(rollout: Rollout) -> State:
    """Where it stands once what an earlier call began is done; a release that comes up is left to whoever starts it."""
    state = rollout.state()
    return state if state.phase is Phase.STARTING else rollout.resume()
