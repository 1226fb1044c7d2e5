"""What must hold of each gradient whatever the numbers, one family a file, as in `minires.ops`."""
