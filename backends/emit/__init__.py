"""Programs of recurrent steps, and the code that is generated from them."""
