"""The first feature view: daily electricity readings of London households, in the original kit's columns."""

from feature_store.views.energy_data_features import VIEW as ENERGY

__all__ = ["ENERGY"]
