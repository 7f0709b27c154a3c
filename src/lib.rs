//! stead
pub mod model;
pub mod lock;
pub mod spec;
