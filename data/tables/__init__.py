"""Traces that are tables of somebody else's: which column is what, in which unit, of what default."""
