"""Nodes that go from words to depth to an image."""
