"""The KServe predictor and transformer, and the log of what was shown and what came of it."""
