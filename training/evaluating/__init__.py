"""Policies replayed side by side, and the account of what is left."""
