//! What every kind of device shares.

pub mod turn;
