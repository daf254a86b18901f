//! Float model to fixed-point network: calibration, scales, the search for lanes and widths. The last floats.
