"""The edit benchmark: change pose, move by 1 m, resize, add, remove; what was asked, and what should have stayed."""
