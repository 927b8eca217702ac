"""Text for the operator: 80 columns, no colours, the same in a terminal and in a pipe."""
