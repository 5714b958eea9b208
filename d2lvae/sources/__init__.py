"""Where images come from: MNIST's files, a folder of images, and two synthetic sets."""
