"""Workers, signals, administration: the process around both protocols."""
