"""The parts of ``momkd reproduce``: profiles, arms, scores, targets and published numbers."""
