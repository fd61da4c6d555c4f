"""Geometry of rays and pixels that the scaffold and the synthetic world share."""
