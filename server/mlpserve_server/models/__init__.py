"""An artifact checked, loaded into ONNX Runtime and proven on its golden samples.

May import store, host and what is below.
"""
