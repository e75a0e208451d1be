"""What the layers and ops of several file formats compute. Each format's folder calls this, and no other format's."""
