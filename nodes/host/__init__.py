"""Where the host's types are read and written: geometry, images, cameras, files, previews, notices."""
