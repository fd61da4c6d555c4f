"""What is particular to one base model: so far the Mini's own."""
