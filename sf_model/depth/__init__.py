"""Metric depth: the value, its edits, its pictures and meshes, and its measures."""
