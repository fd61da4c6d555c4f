"""The networks of the method (arXiv 2604.26341), in pure torch."""
