"""Metric depth, and what one does with it."""
