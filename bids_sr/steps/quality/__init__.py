"""Checks against false detail: uncertainty, precision, training domain, edges and masks."""
