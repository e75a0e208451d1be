"""TensorFlow's models as modules: TensorFlow.js, SavedModel and checkpoints."""
