"""Reporting guidelines: their items as data, and what a finished run answers of each."""
