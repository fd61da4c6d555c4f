"""Depth, point clouds and pictures as files."""
