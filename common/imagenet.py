"""What ImageNet's photographs look like: the scale of every image that goes into a network of this project."""

MEAN = (0.485, 0.456, 0.406)  # RGB, of the training photographs, as shares of 255
STD = (0.229, 0.224, 0.225)
