"""The commands of `mlpserve`, one module each with its flags and what it prints; only `cli` imports them."""
