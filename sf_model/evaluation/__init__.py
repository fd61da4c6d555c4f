"""What the Mini can and cannot do, measured on captions that no training saw."""
