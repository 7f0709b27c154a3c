//! stead
pub mod apply;
pub mod build;
pub mod cli;
pub mod debian;
pub mod image;
pub mod lock;
pub mod model;
pub mod monitor;
pub mod network;
pub mod plan;
pub mod runtime;
pub mod spec;
pub mod store;
pub mod sys;
pub mod volume;
pub mod watch;
