"""The feature views: one file each, named as its view, with one `VIEW = FeatureView(...)`."""
