"""Text in: the query encoder as an ONNX file, with its tokenizer inside."""
