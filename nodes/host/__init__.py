"""Where the host's types are read and written: geometry, cameras, files, previews, notices."""
