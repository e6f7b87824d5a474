"""Something was asked for by a name that stands for nothing."""


class NotServedError(LookupError):
    """Becomes "not found"; an error of ours is a LookupError too, and shall not."""
