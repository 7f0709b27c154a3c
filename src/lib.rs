//! stead
pub mod debian;
pub mod image;
pub mod lock;
pub mod model;
pub mod spec;
pub mod store;
pub mod sys;
