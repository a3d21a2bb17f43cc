"""Why a rollout does not go on. Each message is a sentence that names the thing, the value and the remedy."""


class RolloutRefused(ValueError):
    """What was asked is impossible or unsafe. Nothing was changed."""


class ReleaseRejected(RuntimeError):
    """The release was taken back: it failed its smoke test or was rolled back, now or before."""


class NotReached(RuntimeError):
    """The cluster has not come to the state that was asked for in time. The same call goes on from here."""


class Busy(RuntimeError):
    """Another process holds the rollout."""


class LeaseLost(RuntimeError):
    """Another process has taken the rollout over: this one must not write any more."""


class SmokeFailed(RuntimeError):
    """The release answers, and its answer is wrong."""


class NoAnswer(RuntimeError):
    """Nothing answers yet, or another release does."""
