//! Schema, preprocessing, models, local training, clipping, quantising, server optimisers and metrics: the only crate with floats.
