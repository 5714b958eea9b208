"""How good the images are: measures, classifiers behind two of them, the study of sharpness."""
