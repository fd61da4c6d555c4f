"""A network that reads a scene from an image. The benchmarks judge generated images with it.

It is trained on renders only (`training.reader`), so it is independent of every image model.
"""
