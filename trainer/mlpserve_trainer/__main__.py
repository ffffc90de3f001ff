"""`python -m mlpserve_trainer`, for torchrun."""

from mlpserve_trainer.cli import main

main()
