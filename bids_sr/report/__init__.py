"""Pages of the report: HTML of participants and runs, tables, verdict, and the methods text.

Templates, styles and scripts are in `bids_sr.boilerplate`, drawings in `bids_sr.report.figures`,
and the declarations of figures in `bids_sr.report.figure_steps`. Group pages are in
`bids_sr.group` and `bids_sr.structural.group`. Sentences of the methods text are beside the steps
that they describe; the graph puts them in order (`bids_sr.engine.graph`), and `methods_text` adds
their references.
"""
