"""Depth and point clouds as files."""
