"""The Feast repository: what is known of users and items at any moment, offline for training and online for serving."""
