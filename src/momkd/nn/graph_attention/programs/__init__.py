"""Programs compiled by triton; imported only where triton is. Use: :mod:`triton_layer`."""
