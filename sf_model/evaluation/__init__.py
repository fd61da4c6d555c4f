"""Benchmarks of the Mini, on captions that no training has seen."""
