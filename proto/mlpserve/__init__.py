"""The mlpserve contract: protobuf messages and gRPC stubs, generated from the .proto files beside them.

Callers want `mlpserve_client`; the trainer is `mlpserve_trainer`, the server `mlpserve_server`.
"""
