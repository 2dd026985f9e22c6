"""Steps of linear models and their maps: activation, seeds, clusters and regions."""
