"""Steps as typed functions, the artifacts that they exchange, and the graph that follows from their names."""
