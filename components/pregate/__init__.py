"""What a release would have earned on the log of the one that serves."""
