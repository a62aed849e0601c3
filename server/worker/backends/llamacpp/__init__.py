"""The llama.cpp backend: the only place in ``server`` that loads libllama."""
