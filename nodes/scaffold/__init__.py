"""Nodes that place objects in metres and compose their depth."""
