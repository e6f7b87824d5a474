"""momkd: biomarkers from slides alone, taught by RNA."""

__version__ = "0.1.0"
