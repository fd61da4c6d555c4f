"""The scene reader: a small network, trained on renders only, that reads objects, camera and depth from an image."""
