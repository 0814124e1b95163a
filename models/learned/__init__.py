"""The learned policy: an idle-time distribution per concurrency level, decisions from one price."""
