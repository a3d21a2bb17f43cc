"""Judge a release that is being rolled out: the operational canary and the A/B test."""
