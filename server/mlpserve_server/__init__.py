"""The model server: transports → batching → codec → model → codec. Run it as `mlpserve-server`."""
