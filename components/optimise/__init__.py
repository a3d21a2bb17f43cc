"""The optimise step: a release gets engines for the machine that it will run on, where they earn their place."""
