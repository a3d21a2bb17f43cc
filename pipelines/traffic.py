"""The users of an A/B test on one machine: a run's held-out pages as a stream of requests that never ends by itself."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from types import TracebackType
from typing import Self

from nextpage.experiments.assignment import BUCKETS, TREATMENT, Experiment, arm, buckets
from nextpage.experiments.replay import Page, UserConfig
from serving.replay import ReplayConfig, Replayed, Visit, replay
from serving.rollout.share import NOBODY


@dataclass(kw_only=True)
class Edge:
    """Who sets the arm's header: by `experiment`, which follows the rollout's state. `lost`: of treatment's users, the
    share whose header it drops, as a planted fault."""

    experiment: Experiment = field(default_factory=lambda: Experiment(name=NOBODY, share=0.0))
    lost: float = 0.0

    def __call__(self, user: str) -> str | None:
        found = arm(user, self.experiment)
        lost = found == TREATMENT and buckets([user], "lost at the edge")[0] < self.lost * BUCKETS
        return None if lost else found


def stream(pages: Sequence[Page], *, days: int, visits: int, rate: float) -> Iterator[Visit]:
    """The pages in their order, `rate` requests a second, for ever: after the last comes the first again.

    A day is one of `days` parts of equal size; its pages are each visited `visits` times, all of them once before any
    of them twice.
    """
    size = -(-len(pages) // days)
    numbers = itertools.count()
    for first in itertools.cycle(range(0, len(pages), size)):
        for _ in range(visits):
            for page in pages[first : first + size]:
                number = next(numbers)
                yield Visit(request_id=f"{page.request_id}-{number}", page=page, due_s=number / rate)


def measured_rate(pages: Sequence[Page], url: str, traffic: ReplayConfig, requests: int) -> float:
    """Requests that are answered in a second, where each client asks anew as soon as it has its answer."""
    visits = (Visit(request_id=f"{page.request_id}-measured", page=page) for page in pages[:requests])
    done = asyncio.run(replay(visits, url, lambda user: None, UserConfig(), traffic))
    if not done.answered:
        raise RuntimeError(f"{url} answered none of {done.sent} requests: {dict(done.failed)}")
    return done.answered.total() / done.seconds


class Traffic:
    """A stream that flows in a thread of its own while the context lasts; `done` counts."""

    def __init__(self, visits: Iterator[Visit], url: str, edge: Edge, users: UserConfig, config: ReplayConfig) -> None:
        self.edge = edge
        self.done = Replayed()
        self._stop = Event()
        self._arguments = (visits, url, edge, users, config)
        self._thread = ThreadPoolExecutor(1, "traffic")

    def __enter__(self) -> Self:
        self._flow = self._thread.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.shutdown()
        if kind is None:
            self._flow.result()

    def wait_until(self, moment: datetime) -> None:
        """Let it flow. Raises what it raised, and RuntimeError where it came to its end."""
        with suppress(TimeoutError):
            self._flow.result(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
            raise RuntimeError(f"the replay ended after {self.done.sent:,} requests, before the gates had decided")

    def _run(self) -> None:
        asyncio.run(replay(*self._arguments, stop=self._stop, done=self.done))
