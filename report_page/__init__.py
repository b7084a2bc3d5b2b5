"""The report: reads predictions and runs, computes statistics, and writes one HTML page and Markdown tables."""
