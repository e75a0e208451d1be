"""Reading files of Keras, without Keras or h5py."""
