"""Assignment, statistics and verdicts of A/B tests. Empty until the gate joins the pipeline."""
