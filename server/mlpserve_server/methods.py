"""The methods that go to the batching loop; elsewhere they are known by their place in METHODS."""

PREDICT = "/mlpserve.v1.ClassifierService/Predict"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
METHODS = (PREDICT, MODEL_INFER)
