"""A network that reads a scene from an image: the instrument by which generated images are judged.

It is trained on renders alone (`training.reader`), and so knows nothing of any image model.
"""
