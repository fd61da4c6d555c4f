"""The edit benchmark: change pose, move by 1 m, resize, add, remove. Did the change come, and did the rest stay?"""
