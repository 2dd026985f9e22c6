"""Steps of the pipeline, one function each, in modules by subject."""
