"""Data of tests: data sets, heads, runs, rows of tables and pages, each described once."""
