"""The memory atlas: what is read of a trained memory, what is computed, and its page."""
