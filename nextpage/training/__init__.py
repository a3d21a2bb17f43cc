"""The DeepSpeed loop: batches of whole histories, a schedule, checkpoints that survive a kill."""
