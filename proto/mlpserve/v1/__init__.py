"""Version 1 of the contract: `classifier_pb2`, `classifier_pb2_grpc`, `artifact_pb2`, `packed_pb2`."""
