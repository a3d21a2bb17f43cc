"""Nextpage: a generative recommender that names items by semantic IDs and writes the user's next page."""

__version__ = "0.1.0"
