"""Loops compiled by numba; imported only where numba works. Use: :mod:`numba_layer`."""
