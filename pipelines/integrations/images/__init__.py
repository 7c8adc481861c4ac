"""Image classifiers on folders of images, and the preprocessing that is delivered with them."""
