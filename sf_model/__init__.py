"""SpatialFusion (arXiv 2604.26341): prompt -> metric depth -> image. Pure torch; never imports ComfyUI."""
