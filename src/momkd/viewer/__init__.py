"""The viewer in the browser: a run's cases, slides in depth, heat maps, new predictions.

It reads slides and stored scores, and knows no model: what predicts is given to it, and works in
a process of its own.
"""
