"""SpatialFusion (arXiv 2604.26341): prompt -> metric depth -> image. Pure torch, without ComfyUI."""
