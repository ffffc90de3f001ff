"""What training is measured by: speed against the textbook loop, beside other work, and accuracy over seeds."""
