"""The Helm chart, rendered by real Helms and held against the schemas of a real API server."""
