"""The benchmark behind ``scripts/bench``: a lean client, servers to start, scenarios, a table."""
