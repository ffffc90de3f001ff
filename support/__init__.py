"""What tests and benchmarks both need: real processes, plain gRPC calls, load, data. It imports neither of them."""
