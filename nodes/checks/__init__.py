"""What nodes are given is looked at before they run: one rule for each type of input."""
