"""A launch is one TrainJob at a time, whoever dies and whatever the cluster does; a failure is told in full."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from components.trainjob.launch import Launcher, TrainJobFailed, TrainJobRefused
from serving.rollout.cluster import Cluster
from tests.components.trainjob.conftest import QUICK, Ticking, World
from tests.components.trainjob.trainer import JOBS, Trainer, launched
from tests.serving.rollout.api_server import Call
from tests.serving.rollout.test_crash import Died
from tests.serving.rollout.test_faults import counted, often

Worlds = Callable[..., World]
FIRST, SECOND = "nextpage-training-f00d-1", "nextpage-training-f00d-2"


def alone(trainer: Trainer) -> bool:
    return trainer.most_at_once == 1


def test_a_launch_ends_with_its_result_and_the_first_nodes_lines_were_each_said_once(
    a_world: Worlds, capsys: pytest.CaptureFixture[str]
) -> None:
    world = a_world("completes")
    world.launcher().run()
    assert (launched(world.trainer), world.launch.result.exists()) == ([FIRST], True)
    said = capsys.readouterr().out.splitlines()
    steps = [line for line in said if line.startswith("step")]
    assert steps == [f"step {second} of {FIRST}-node-0-0-0" for second in range(3)]
    assert f"TrainJob shop/{FIRST}: pods 2 Running" in said


def test_pods_of_a_launch_run_where_it_says(a_world: Worlds) -> None:
    world = a_world("completes")
    with pytest.raises(Died):
        world.launcher(Mortal(world, 3)).run()
    (live,) = world.server.store.all("trainjobs")
    assert live["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert (live["spec"]["trainer"]["numNodes"], live["spec"]["trainer"]["numProcPerNode"]) == (2, 8)
    pods = world.server.store.all("pods")
    assert len(pods) == 2
    for pod in pods:
        assert pod["spec"]["nodeSelector"] == {"pool": "gpu-train"}
        keys = [toleration["key"] for toleration in pod["spec"]["tolerations"]]
        assert keys == ["pool", "nvidia.com/gpu"]


class Mortal(Cluster):
    """Dies instead of a call, and is dead from then on; or right after it, before the answer is heard."""

    def __init__(self, world: World, calls: int, *, deaf: bool = False) -> None:
        super().__init__(Ticking(world.trainer), QUICK, sleep=world.time.sleep)
        self._left, self._deaf = calls, deaf

    def _call(self, *args: object, **named: object) -> object:
        if self._left <= 0:
            if self._deaf:
                super()._call(*args, **named)  # type: ignore[arg-type]
            raise Died
        self._left -= 1
        return super()._call(*args, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize("deaf", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("fates", "most"), [(("completes",), 1), (("queued",), 1), (("preempted", "completes"), 2)], ids=lambda given: given
)
def test_a_launcher_killed_at_any_call_is_followed_by_one_that_finds_the_same_trainjob(
    a_world: Worlds, fates: tuple[str, ...], most: int, deaf: bool
) -> None:
    for calls in range(200):
        world = a_world(*fates)
        try:
            world.launcher(Mortal(world, calls, deaf=deaf)).run()
            lived = True
        except Died:
            lived = False
        for _ in range(2):  # as a pipeline tries again; that a pod was preempted may have died with who saw it
            try:
                world.launcher().run()
                break
            except TrainJobFailed:
                assert "preempted" in fates
        assert len(launched(world.trainer)) == most, calls
        assert alone(world.trainer), calls
        assert world.launch.result.exists()
        if lived:
            assert calls > 10
            return
    raise AssertionError("more than 200 calls")


def test_an_answer_that_was_lost_and_a_launcher_that_was_first_lead_to_one_trainjob(a_world: Worlds) -> None:
    world = a_world("completes")
    lost = counted(lambda call: call.method == "POST", "after")
    with world.server.running():
        world.launcher(world.served(lost)).run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST], True)

    world = a_world("completes")

    def be_first(call: Call) -> None:
        if call.method == "POST" and not launched(world.trainer):
            world.server.store.create((*JOBS, "shop", FIRST), world.launch.manifest(1))

    with world.server.running():
        world.launcher(world.served(be_first)).run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST], True)


def test_a_trainjob_that_is_anothers_is_refused_and_left_alone(a_world: Worlds) -> None:
    world = a_world("completes")
    with pytest.raises(Died):
        world.launcher(Mortal(world, 5)).run()
    before = world.server.store.get((*JOBS, "shop", FIRST))
    message = rf"{FIRST} is there and is not .* differs in spec\.trainer\.numNodes\. If .* kubectl delete trainjob"
    with pytest.raises(TrainJobRefused, match=message):
        world.asking(nodes=4).launcher().run()
    with pytest.raises(TrainJobRefused, match=r"runtimePatches.*nodeSelector\.pool"):
        world.asking(node_pool="pool=other").launcher().run()
    assert world.server.store.get((*JOBS, "shop", FIRST))["spec"] == before["spec"]

    world = a_world("completes")
    foreign = world.launch.manifest(1)
    foreign["metadata"]["labels"] = {}  # so that it is met only when its name is asked for
    foreign["spec"]["runtimeRef"]["name"] = "theirs"
    world.server.store.create((*JOBS, "shop", FIRST), foreign)
    with pytest.raises(TrainJobRefused, match=r"spec\.runtimeRef"):
        world.launcher().run()
    assert len(world.server.store.all("trainjobs")) == 1


def test_a_failure_is_told_with_events_and_last_lines_and_makes_no_second_trainjob(a_world: Worlds) -> None:
    world = a_world("fails")
    with pytest.raises(TrainJobFailed, match=rf"{FIRST} failed, FailedJobs: jobset failed due to") as failed:
        world.launcher().run()
    assert launched(world.trainer) == [FIRST]
    account = failed.value.account
    assert account.startswith(f"# TrainJob shop/{FIRST} failed, FailedJobs")
    assert "| 2026-01-01T00:01:00Z | Pod " in account
    assert "| BackOff | the container failed \\| for good |" in account
    assert f"## Last lines of {FIRST}-node-0-1-0\n\n~~~~\nstep 0" in account
    assert "\nValueError: the loss is not finite\n~~~~" in account


def test_a_step_that_is_run_again_after_a_failure_waits_for_the_pods_and_then_tries_anew(a_world: Worlds) -> None:
    world = a_world("fails", "completes")
    with pytest.raises(TrainJobFailed):
        world.launcher().run()
    world.launcher().run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST, SECOND], True)


def test_pods_that_do_not_end_keep_a_new_try_from_beginning(a_world: Worlds) -> None:
    world = a_world("fails", "completes")
    with pytest.raises(TrainJobFailed):
        world.launcher().run()
    world.trainer.tick = lambda: None  # type: ignore[method-assign]
    with pytest.raises(TrainJobFailed, match=r"pods of nextpage-training-f00d have not ended.*waited 120 s"):
        world.launcher().run()
    assert launched(world.trainer) == [FIRST]


def test_a_preempted_trainjob_is_launched_anew_a_bounded_number_of_times(a_world: Worlds) -> None:
    world = a_world("preempted")
    with pytest.raises(TrainJobFailed, match=r"-3 failed after 2 restarts, FailedJobs"):
        world.launcher(restarts=2).run()
    assert (len(launched(world.trainer)), alone(world.trainer)) == (3, True)

    world = a_world("preempted", "preempted", "completes")
    world.launcher(restarts=2).run()
    assert (len(launched(world.trainer)), alone(world.trainer)) == (3, True)


def test_one_that_came_through_a_preemption_and_failed_by_itself_is_not_launched_anew(a_world: Worlds) -> None:
    world = a_world("recovers")
    with pytest.raises(TrainJobFailed, match="FailedJobs"):
        world.launcher().run()
    assert launched(world.trainer) == [FIRST]


def test_a_deadline_is_a_failure_that_only_a_person_tries_again(a_world: Worlds) -> None:
    world = a_world("deadline", "completes")
    with pytest.raises(TrainJobFailed, match=r"DeadlineExceeded: TrainJob exceeded its active deadline") as failed:
        world.launcher().run()
    assert launched(world.trainer) == [FIRST]
    assert "step 2 of" in failed.value.account  # the pods may be gone: the lines were kept
    world.launcher().run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST, SECOND], True)


def test_one_that_is_deleted_while_it_runs_is_a_failure(a_world: Worlds) -> None:
    world = a_world("completes")
    launcher = world.launcher()
    looks = iter(range(100))

    def delete_it(call: Call) -> None:
        if next(looks) == 8:
            world.server.store.delete((*JOBS, "shop", FIRST), {})

    with world.server.running(), pytest.raises(TrainJobFailed, match=rf"{FIRST} failed, Deleted: by another"):
        replace(launcher, cluster=world.served(delete_it)).run()


def test_a_complete_one_is_taken_as_it_is_while_its_result_is_there_and_done_anew_when_not(a_world: Worlds) -> None:
    world = a_world("completes")
    world.launcher().run()
    world.launcher().run()
    assert launched(world.trainer) == [FIRST]
    world.launch.result.unlink()
    world.launcher().run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST, SECOND], True)


def test_a_result_that_the_step_cannot_see_is_an_error_that_asks_about_the_mount(a_world: Worlds) -> None:
    world = a_world("completes")
    elsewhere: Launcher = replace(
        world.launcher(), launch=replace(world.launch, result=world.launch.result.with_name("outcome.json"))
    )
    with pytest.raises(TrainJobFailed, match=r"is complete, and .*outcome.json is not there: do its nodes mount"):
        elsewhere.run()


@pytest.mark.parametrize("fault", ["409", "429", "500", "503", "before", "after", "hang", "half"])
def test_a_launch_comes_through_what_goes_wrong_often(a_world: Worlds, fault: str) -> None:
    world = a_world("preempted", "completes")
    with world.server.running():
        world.launcher(world.served(often(fault, seed=7))).run()
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST, SECOND], True)


@pytest.mark.parametrize("fault", ["410", "503", "before", "after", "hang", None])
def test_a_watch_that_breaks_only_costs_a_look(a_world: Worlds, fault: str | None) -> None:
    world = a_world("completes")
    with world.server.running():
        world.launcher(world.served(lambda call: fault if call.watch else None), poll_s=0.1).run()
    assert any(call.watch for call in world.server.calls)
    assert (launched(world.trainer), alone(world.trainer)) == ([FIRST], True)
