"""One self-contained page on a run, for a manager and an engineer."""
