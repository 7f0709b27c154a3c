//! stead
pub mod model;
pub mod spec;
