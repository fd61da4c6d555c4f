"""Training data from images: sources, checks, aspect buckets, and the prepared store that training reads."""
