"""What scoring jobs are measured by."""
