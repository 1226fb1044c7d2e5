"""How the inputs of each op are drawn, one family a file, as in `minires.ops`."""
