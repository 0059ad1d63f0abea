"""The E2 service model and its gRPC face: .proto files and the code generated from them."""
