"""Figures and tables of the report, one function each."""
