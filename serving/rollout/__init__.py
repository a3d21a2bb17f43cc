"""Moves traffic from one release to the next, a step at a time, and back.

`rollout.Rollout` is the state machine: start, ramp, promote, roll back. It may be stopped anywhere and run again: its
state lives in the cluster (`lease.py`), not in a process. A `driver.Driver` brings the world to a state; in a cluster
that is `cluster_driver.ClusterDriver` with one of three strategies, chosen by `capabilities.choose`, and on one machine
`local.Local`:

| strategy | traffic moves by | a user stays in an arm |
|---|---|---|
| `httproute` | our HTTPRoute before one InferenceService a release | yes: the arm is a header, matched exactly |
| `standard-canary` | `spec.canary` of one InferenceService | no: every request is drawn |
| `local` | Envoy's routes before one server a release | yes, as with `httproute` |
| `knative` | `canaryTrafficPercent` of one InferenceService | no: every request is drawn |
"""
