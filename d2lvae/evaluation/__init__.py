"""How good the images are: measures, the classifiers behind two of them, and the study of sharpness."""
