"""Policies that others published, as baselines; each file cites its source."""
