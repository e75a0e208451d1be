"""TensorFlow's files: checkpoints, SavedModels and TensorFlow.js."""
