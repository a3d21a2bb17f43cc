"""The evaluate step: a candidate against the counts, on the same requests."""
