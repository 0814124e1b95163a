"""The scheduler: which instance serves a request, when to start one, how long to keep it. No I/O."""
