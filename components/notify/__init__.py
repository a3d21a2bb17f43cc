"""What a run came to: a summary, and a word to a webhook."""
