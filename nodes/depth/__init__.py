"""Nodes that load, save, show and change a metric depth."""
