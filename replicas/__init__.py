"""Replicas ahead of time: how many an app should have by the time a new one is ready.

For platforms that count replicas instead of asking for each request. No I/O here: observations go in
with their time, a number of replicas and the reason come out.
"""
