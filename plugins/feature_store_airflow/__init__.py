"""What the feature store's DAGs are built from: operators, the plan, the verdict and the pipeline that joins them."""
