"""PyTorch's files, read without PyTorch; and its names for the parameters of recurrent layers."""
