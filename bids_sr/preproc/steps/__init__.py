"""Steps of preprocessing: motion, reference image, outlier volumes, registration and confounds."""
