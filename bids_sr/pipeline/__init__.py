"""Steps as typed functions, the artifacts they exchange, and the graph built from their names."""
