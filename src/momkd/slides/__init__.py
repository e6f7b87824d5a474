"""Pixels: slides, tissue, tiles, encoders. No table and no model is known here."""
