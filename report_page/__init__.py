"""What came out of the runs: read, counted, drawn, and laid out on one page and in Markdown tables."""
