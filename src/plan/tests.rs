//! Scenarios on a simulated host.
