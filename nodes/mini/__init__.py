"""The built-in base, SpatialFusion-Mini, as the MODEL, CLIP and VAE of the host."""
