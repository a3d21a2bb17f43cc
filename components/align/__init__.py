"""The align step: a base model, aligned to rewards, goes on only where its gate lets it."""
