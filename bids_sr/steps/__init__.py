"""The steps of the pipeline, one function each, by what they are about."""
