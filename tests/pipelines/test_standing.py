"""A rollout by hand, by the commands that somebody types."""

import contextlib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.cli import app
from serving.sinks import RedisStreamSink
from tests.serving.redis_server import RedisServer, redis_server
from tests.serving.rollout.conftest import World, a_release, a_world
from tests.serving.rollout.test_crash import Died, Mortal
from tests.serving.test_sinks import rows_of

__all__ = ["redis_server"]
SETTINGS = "{records: r, storage: 's3://m/{hash}', events: e, strategy: httproute, hostnames: [shop.example.com]}"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """r1 serves, and r2 has a tenth of the users."""
    made = a_world("httproute")
    made.in_process = True
    monkeypatch.setattr("pipelines.standing.open_rollout", lambda config: made.process())
    made.process().start(a_release("r1"))
    made.process().start(a_release("r2"))
    made.process().ramp("r2", 10)
    return made


def typed(folder: Path, *words: str) -> Result:
    (folder / "rollout.yaml").write_text(SETTINGS)
    return CliRunner().invoke(app, ["rollout", str(folder / "rollout.yaml"), *words])


def test_it_says_who_has_how_much_and_what_came_before(world: World, tmp_path: Path) -> None:
    assert typed(tmp_path).output.splitlines() == ["ramping, by httproute", "  90%  r1", "  10%  r2", "promoted: r1"]


def test_a_release_is_taken_back_by_hand_and_the_reason_is_kept(world: World, tmp_path: Path) -> None:
    shown = typed(tmp_path, "--roll-back", "angry calls").output.splitlines()
    assert shown == ["settled, by httproute", " 100%  r1", "rolled back: r2 angry calls", "promoted: r1"]
    assert world.controllers.traffic() == {"r1": 100}
    again = typed(tmp_path, "--roll-back", "angry calls")
    assert again.exit_code == 1
    assert "there is nothing to take back" in again.output


def test_resume_takes_the_old_release_away_where_a_promotion_died_before_it_could(world: World, tmp_path: Path) -> None:
    def served() -> set[str]:
        return {one["metadata"]["name"] for one in world.server.store.all("inferenceservices")}

    for calls in range(200):
        with contextlib.suppress(Died):
            world.process(Mortal(world, calls)).promote("r2")
        if world.process().state().shares == {"r2": 100}:
            break
    assert served() == {"shop-r1", "shop-r2"}
    assert typed(tmp_path, "--resume").output.splitlines()[:2] == ["settled, by httproute", " 100%  r2"]
    assert served() == {"shop-r2"}


def test_what_servers_logged_to_redis_is_moved_by_a_command(tmp_path: Path, redis_server: RedisServer) -> None:
    RedisStreamSink(redis_server.url)("feedback", rows_of("feedback", 1_500))
    shown = CliRunner().invoke(app, ["drain", redis_server.url, str(tmp_path / "log")])
    assert shown.output.split() == ["0", "exposures", "1,500", "feedback", "0", "requests"]
    assert len(list((tmp_path / "log/feedback").glob("*.parquet"))) == 1
    redis_server.kill()
    down = CliRunner().invoke(app, ["drain", redis_server.url, str(tmp_path / "log")])
    assert down.exit_code == 1
    assert "run again" in down.output
