"""Training a compact Mask R-CNN and exporting it to ONNX (extra ``torch``)."""
