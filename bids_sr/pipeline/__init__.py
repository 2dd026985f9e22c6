"""Steps as typed functions, the artifacts they exchange, and the graph that their calls build."""
