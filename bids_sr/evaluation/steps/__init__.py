"""Steps that test detail, measure series against references, and decide the verdict."""
