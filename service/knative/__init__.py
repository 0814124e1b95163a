"""Knative: a floor under its Revisions, ahead of time."""
