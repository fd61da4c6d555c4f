"""What the scaffold and the synthetic world share: axes, ray intersections, light and the z-buffer."""
