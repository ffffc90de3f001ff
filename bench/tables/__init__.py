"""What was measured as tables with targets, put into the documentation; measures nothing."""
