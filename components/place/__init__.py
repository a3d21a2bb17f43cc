"""The place step: what a run form says of nodes, as what a cluster asks of the pods of the steps after it."""
